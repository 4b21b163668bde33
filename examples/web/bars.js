// Concepts as bars that can be pushed: each is a slider, by pointer and by keys.

const STEPS = 40; // that the arrow keys make of a bar's length

// entries: [{ latent, own, value }]; describe(latent) gives { name, top }; push(latent, value) is
// told a new value, or null to undo.
export function drawBars(list, entries, most, { describe, push }) {
    list.replaceChildren(...entries.map((entry) => {
        const { name, top } = describe(entry.latent);
        const item = document.createElement('li');
        item.dataset.latent = entry.latent;
        item.innerHTML = `<span class="name"><b></b> <small></small></span>
            <div class="bar" role="slider" tabindex="0" aria-valuemin="0">
            <div class="fill"></div><div class="own"></div></div><span class="value"></span>`;
        item.querySelector('b').textContent = name;
        item.querySelector('small').textContent = top.slice(0, 4).join(', ');
        item.querySelector('.name').title = [name, ...top].join(', ');
        const bar = item.querySelector('.bar');
        bar.setAttribute('aria-label', name);
        bar.setAttribute('aria-valuemax', most.toFixed(2));
        bar.setAttribute('aria-describedby', 'bar-hint');
        item.querySelector('.own').style.left = `${100 * entry.own / most}%`;
        listen(bar, item, entry.latent, most, push);
        return item;
    }));
    updateBars(list, entries, most);
}

// New values for bars that are there.
export function updateBars(list, entries, most) {
    for (const { latent, own, value } of entries) {
        const item = list.querySelector(`li[data-latent="${latent}"]`);
        if (!item) continue;
        const pushed = value !== own, bar = item.querySelector('.bar');
        item.dataset.value = value;
        item.classList.toggle('pushed', pushed);
        item.querySelector('.value').textContent = value.toFixed(2);
        item.querySelector('.fill').style.width = `${100 * Math.min(value / most, 1)}%`;
        bar.setAttribute('aria-valuenow', value.toFixed(2));
        bar.setAttribute('aria-valuetext', pushed ?
            `${value.toFixed(2)}, pushed from ${own.toFixed(2)}` : value.toFixed(2));
    }
}

function listen(bar, item, latent, most, push) {
    const clamped = (value) => Math.fround(Math.min(Math.max(value, 0), most));
    const drag = (event) => {
        const box = bar.getBoundingClientRect();
        push(latent, clamped((event.clientX - box.left) / box.width * most));
    };
    bar.addEventListener('pointerdown', (event) => {
        if (event.button !== 0) return;
        bar.setPointerCapture(event.pointerId);
        bar.classList.add('dragged');
        bar.focus({ preventScroll: true });
        // A finger may only want to scroll: it pushes once it moves sideways.
        if (event.pointerType === 'mouse') drag(event);
        event.preventDefault();
    });
    bar.addEventListener('pointermove', (event) => {
        if (bar.hasPointerCapture(event.pointerId)) drag(event);
    });
    for (const end of ['pointerup', 'pointercancel']) {
        bar.addEventListener(end, () => bar.classList.remove('dragged'));
    }
    bar.addEventListener('keydown', (event) => {
        const step = most / STEPS, value = Number(item.dataset.value);
        const moves = {
            ArrowRight: step, ArrowUp: step, ArrowLeft: -step, ArrowDown: -step,
            PageUp: 5 * step, PageDown: -5 * step, Home: -most, End: most,
        };
        if (event.key in moves) push(latent, clamped(value + moves[event.key]));
        else if (event.key === 'Delete' || event.key === 'Backspace') push(latent, null);
        else return;
        event.preventDefault();
    });
}
