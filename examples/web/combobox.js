// A text field with suggestions, by the combobox pattern of ARIA: the focus stays in the field,
// arrow keys move through the list, Enter takes, Escape closes.

// find(text) gives [{ value, label, note }], the best first; take(value) is told what was chosen,
// missed(text) what was entered and is not there.
export function combobox(input, list, { find, take, missed }) {
    let found = [], active = -1;

    input.setAttribute('role', 'combobox');
    input.setAttribute('aria-autocomplete', 'list');
    input.setAttribute('aria-controls', list.id);
    list.setAttribute('role', 'listbox');

    function show() {
        list.hidden = found.length === 0;
        input.setAttribute('aria-expanded', String(!list.hidden));
        list.replaceChildren(...found.map(({ label, note }, i) => {
            const item = document.createElement('li');
            item.id = `${list.id}-${i}`;
            item.setAttribute('role', 'option');
            item.setAttribute('aria-selected', String(i === active));
            item.append(label);
            if (note) {
                const small = document.createElement('small');
                small.textContent = ` ${note}`;
                item.append(small);
            }
            // before the field loses the focus
            item.addEventListener('pointerdown', (event) => {
                event.preventDefault();
                choose(i);
            });
            return item;
        }));
        if (active < 0) input.removeAttribute('aria-activedescendant');
        else input.setAttribute('aria-activedescendant', `${list.id}-${active}`);
    }

    function close() {
        found = [];
        active = -1;
        show();
    }

    function choose(i) {
        const { value } = found[i];
        close();
        take(value);
    }

    input.addEventListener('input', () => {
        found = input.value.trim() ? find(input.value.trim()) : [];
        active = -1;
        show();
    });
    input.addEventListener('focus', () => input.select());
    input.addEventListener('blur', close);
    input.addEventListener('keydown', (event) => {
        if (event.key === 'ArrowDown' || event.key === 'ArrowUp') {
            if (found.length === 0) found = find(input.value.trim());
            const step = event.key === 'ArrowDown' ? 1 : -1;
            if (found.length) active = (Math.max(active, step < 0 ? 0 : -1) + step + found.length) %
                found.length;
            show();
        } else if (event.key === 'Enter') {
            if (found.length === 0) found = find(input.value.trim());
            if (found.length) choose(Math.max(active, 0));
            else if (input.value.trim()) missed(input.value.trim());
        } else if (event.key === 'Escape') {
            close();
        } else {
            return;
        }
        event.preventDefault();
    });
    close();
}
