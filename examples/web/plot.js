// The share of variance lost against k, as SVG; text keeps its size on any width.

const percent = (share) => `${(100 * share).toFixed(1)} %`;

function element(name, attributes, text) {
    const made = document.createElementNS('http://www.w3.org/2000/svg', name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
}

// all: the mean over all words, [{ k, lost }]; word: the same of one; now: { k, lost }.
export function drawPlot(place, { all, word, levels, now, name }) {
    const width = Math.max(place.clientWidth, 260), height = width < 500 ? 260 : 300;
    const left = 52, right = 16, top = 26, bottom = 44;
    const last = Math.log2(all[all.length - 1].k);
    const x = (k) => left + (width - left - right) * Math.log2(k) / last;
    const highest = Math.max(...all.map((p) => p.lost), ...word.map((p) => p.lost));
    const most = Math.max(0.2, Math.ceil(highest * 5) / 5);
    const y = (lost) => top + (height - top - bottom) * (1 - lost / most);
    const path = (points) => points.map((p, i) =>
        `${i ? 'L' : 'M'}${x(p.k).toFixed(1)} ${y(p.lost).toFixed(1)}`).join('');
    const svg = element('svg', {
        viewBox: `0 0 ${width} ${height}`, role: 'img',
        'aria-label': `Share of variance lost against the number of concepts. With ${now.k}: ` +
            `${percent(now.lost)} of ${name}. The numbers are in the table below.`,
    });

    const floor = height - bottom, end = width - right;
    const line = (kind, x1, y1, x2, y2) =>
        svg.append(element('line', { class: kind, x1, y1, x2, y2 }));
    const write = (text, x, y, anchor, kind = '') =>
        svg.append(element('text', { x, y, 'text-anchor': anchor, class: kind }, text));

    for (let i = 0; i <= most * 5 + 1e-9; i++) {
        line('grid', left, y(i / 5), end, y(i / 5));
        write(`${20 * i} %`, left - 8, y(i / 5) + 4, 'end');
    }
    // Every label that does not run into the one before.
    let free = 0;
    for (const k of [1, 2, 4, ...levels.filter((k) => k > 4)]) {
        line('grid', x(k), floor, x(k), floor + 5);
        if (x(k) - 14 < free) continue;
        write(k, Math.min(x(k), width - 16), floor + 19, 'middle');
        free = x(k) + 16;
    }
    write('concepts kept, k (logarithmic)', (left + end) / 2, height - 6, 'middle');
    write('variance lost (FVU)', left - 8, 13, 'start');

    svg.append(element('path', { class: 'all', d: path(all) }));
    for (const p of all.filter((p) => levels.includes(p.k))) {
        svg.append(element('circle', { class: 'level', cx: x(p.k), cy: y(p.lost), r: 4 }));
    }
    svg.append(element('path', { class: 'word', d: path(word) }));
    line('now', x(now.k), top, x(now.k), floor);
    svg.append(element('circle', { class: 'dot', cx: x(now.k), cy: y(now.lost), r: 6 }));

    const legend = [['all', 'all words'], ['word', name]];
    legend.forEach(([kind, label], i) => {
        const at = top + 14 + 20 * i, from = end - 150;
        line(kind, from, at, from + 30, at);
        write(label, from + 38, at + 4, 'start', 'label');
    });
    place.replaceChildren(svg);
}

export function drawTable(place, { all, word, levels, name }) {
    const table = document.createElement('table'), head = table.createTHead().insertRow();
    for (const title of ['k', 'all words', name, 'level']) {
        const cell = document.createElement('th');
        cell.scope = 'col';
        cell.textContent = title;
        head.append(cell);
    }
    const body = table.createTBody();
    all.forEach((p, i) => {
        const row = body.insertRow();
        const cells = [p.k, percent(p.lost), percent(word[i].lost),
            levels.includes(p.k) ? levels.indexOf(p.k) + 1 : ''];
        for (const cell of cells) row.insertCell().textContent = cell;
    });
    place.replaceChildren(table);
}
