// The page: what is chosen, and what it leads to. engine.js computes, the other files draw.
import { drawBars, updateBars } from './bars.js';
import { combobox } from './combobox.js';
import { load } from './engine.js';
import { drawPlot, drawTable } from './plot.js';

const SHOWN = 16; // bars, until all are asked for
const TOP = 10;   // nearest words
const FIRST_WORD = 'piano', FIRST_K = 16;

const $ = (id) => document.getElementById(id);

// --- theme: the system's, until another is chosen --------------------------------------------
const dark = matchMedia('(prefers-color-scheme: dark)');
const stored = { // pages without storage (some private windows) forget
    get: () => { try { return localStorage.getItem('theme'); } catch { return null; } },
    set: (theme) => { try { localStorage.setItem('theme', theme); } catch { /* forgotten */ } },
};

function applyTheme() {
    const theme = stored.get();
    if (theme) document.documentElement.dataset.theme = theme;
    $('theme').setAttribute('aria-pressed', String(theme ? theme === 'dark' : dark.matches));
}

$('theme').addEventListener('click', () => {
    const isDark = $('theme').getAttribute('aria-pressed') === 'true';
    document.documentElement.dataset.theme = isDark ? 'light' : 'dark';
    stored.set(isDark ? 'light' : 'dark');
    $('theme').setAttribute('aria-pressed', String(!isDark));
});
dark.addEventListener('change', applyTheme);
applyTheme();

// --- what is chosen ---------------------------------------------------------------------------
let engine;
const chosen = {
    word: 0,
    k: FIRST_K,
    pushes: new Map(), // latent to value
    showAll: false,
};
let own = [];     // the word's codes without pushes
let most = 1;     // the value at a bar's right end
let lostOfWord = []; // at every k of the curve

const name = () => engine.words[chosen.word];

// At most one drawing for each frame, however many events there are.
let waiting = new Set();
function schedule(...parts) {
    if (waiting.size === 0) requestAnimationFrame(draw);
    for (const part of parts) waiting.add(part);
}

function draw() {
    const parts = waiting;
    waiting = new Set();
    if (parts.has('word')) drawWord();
    if (parts.has('word') || parts.has('k')) drawConcepts();
    drawRebuilt();
    announce();
}

// --- drawing ----------------------------------------------------------------------------------
function entries() {
    const all = own.map(({ latent, value }) => ({ latent, own: value, value }));
    for (const latent of chosen.pushes.keys()) { // concepts added by hand come last
        if (!all.some((entry) => entry.latent === latent)) all.push({ latent, own: 0, value: 0 });
    }
    for (const entry of all) entry.value = chosen.pushes.get(entry.latent) ?? entry.value;
    return all;
}

function drawWord() {
    engine.take(chosen.word);
    $('word').value = name();
    $('word-hint').textContent = `number ${chosen.word + 1} of ` +
        `${engine.words.length.toLocaleString('en')} by frequency`;
    lostOfWord = engine.lostAt(engine.curve.map(({ k }) => k))
        .map((lost, i) => ({ k: engine.curve[i].k, lost }));
    drawWords($('own'), engine.nearest(false, TOP + 1), null);
    drawTable($('table'), plotted());
    history.replaceState(null, '', `#${encodeURIComponent(name())}`);
}

function drawConcepts() {
    own = engine.encode(chosen.k);
    most = own.length ? 2 * own[0].value : 1;
    const all = entries(), added = all.slice(own.length);
    const shown = chosen.showAll ? all : [...all.slice(0, Math.min(SHOWN, own.length)), ...added];
    drawBars($('bars'), shown, most, { describe: (latent) => engine.names[latent], push });
    $('more').hidden = own.length <= SHOWN;
    $('more').textContent = chosen.showAll ? `Show only the ${SHOWN} strongest` :
        `Show all ${own.length}`;
    $('k-value').textContent = chosen.k;
    $('k').setAttribute('aria-valuetext', `${chosen.k} concepts`);
    measureSoon();
}

function drawRebuilt() {
    engine.encode(chosen.k);
    const rebuilt = engine.rebuild(chosen.pushes), pushed = chosen.pushes.size > 0;
    const nearest = engine.nearest(true, TOP + 1);
    updateBars($('bars'), entries(), most);
    $('cosine').textContent = rebuilt.cosine.toFixed(3);
    $('cosine').dataset.value = rebuilt.cosine;
    $('lost').textContent = `${(100 * rebuilt.lost).toFixed(1)} %`;
    $('lost').dataset.value = rebuilt.lost;
    $('reset').hidden = !pushed;
    $('rebuilt-title').textContent = pushed ? 'When pushed' : 'When rebuilt';
    drawWords($('rebuilt'), nearest, new Set([...$('own').children].map((li) => li.dataset.word)));
    $('nearest-hint').textContent =
        `By cosine, among ${engine.words.length.toLocaleString('en')} words. ` +
        'In bold: not among those nearest to the word.';
    drawPlot($('plot'), plotted());
    $('strip').textContent = `${rebuilt.cosine.toFixed(2)}  ` +
        nearest.slice(0, 4).map(({ word }) => engine.words[word]).join(', ');
}

function plotted() {
    const at = lostOfWord.find(({ k }) => k === chosen.k);
    return { all: engine.curve, word: lostOfWord, levels: engine.levels, name: name(), now: at };
}

// A list of words that can be clicked. `known`: words that are nothing new.
function drawWords(list, nearest, known) {
    list.replaceChildren(...nearest.map(({ word, cosine }) => {
        const item = document.createElement('li'), button = document.createElement('button');
        item.dataset.word = word;
        item.dataset.cosine = cosine;
        item.className = word === chosen.word ? 'itself' :
            known && !known.has(String(word)) ? 'new' : '';
        button.type = 'button';
        button.innerHTML = '<span class="word"></span><span class="cosine"></span>';
        button.firstChild.textContent = engine.words[word];
        button.lastChild.textContent = cosine.toFixed(2);
        button.addEventListener('click', () => takeWord(word));
        item.append(button);
        return item;
    }));
}

// Says what came out once nothing has changed for a moment, to those who cannot see it.
let announcing;
function announce() {
    clearTimeout(announcing);
    announcing = setTimeout(() => {
        const words = [...$('rebuilt').querySelectorAll('.word')].slice(0, 3);
        $('live').textContent = `${name()}, ${own.length} concepts, cosine ` +
            `${$('cosine').textContent}. Nearest: ${words.map((w) => w.textContent).join(', ')}.`;
    }, 600);
}

let measuring;
function measureSoon() {
    clearTimeout(measuring);
    measuring = setTimeout(() => {
        const time = engine.measure(chosen.k);
        $('time').textContent = `${time.toFixed(time < 10 ? 1 : 0)} µs`;
        $('time').dataset.value = time;
    }, 300);
}

// --- choosing ---------------------------------------------------------------------------------
function takeWord(word) {
    chosen.word = word;
    chosen.pushes.clear();
    chosen.showAll = false;
    schedule('word');
}

function push(latent, value) {
    if (value === null) {
        chosen.pushes.delete(latent);
        if (!own.some((code) => code.latent === latent)) { // it was added, and goes again
            schedule('k');
            return;
        }
    } else {
        chosen.pushes.set(latent, value);
    }
    schedule('push');
}

function addConcept(latent) {
    $('add').value = '';
    chosen.pushes.set(latent, Math.fround(own.length ? own[0].value : 1));
    const hidden = own.findIndex((code) => code.latent === latent) >= SHOWN;
    if (hidden) chosen.showAll = true;
    schedule('k');
    requestAnimationFrame(() => {
        $('bars').querySelector(`li[data-latent="${latent}"] .bar`)?.focus();
    });
}

function findWords(text) {
    const start = text.toLowerCase(), found = [];
    if (engine.numbers.has(start)) found.push(engine.numbers.get(start));
    for (let i = 0; i < engine.words.length && found.length < 8; i++) {
        if (engine.words[i].startsWith(start) && engine.words[i] !== start) found.push(i);
    }
    return found.map((i) => ({ value: i, label: engine.words[i] }));
}

function findConcepts(text) {
    const part = text.toLowerCase(), ranked = [];
    engine.names.forEach(({ name, top }, latent) => {
        const rank = name === part ? 0 : name.startsWith(part) ? 1 : top.includes(part) ? 2 :
            top.some((word) => word.startsWith(part)) ? 3 : 4;
        const note = top.slice(0, 4).join(', ');
        if (rank < 4) ranked.push({ rank, value: latent, label: name, note });
    });
    return ranked.sort((a, b) => a.rank - b.rank).slice(0, 8);
}

function start() {
    const ks = engine.curve.map(({ k }) => k);
    const asked = engine.numbers.get(decodeURIComponent(location.hash.slice(1)));
    chosen.k = ks.includes(FIRST_K) ? FIRST_K : ks[0];
    $('k').max = ks.length - 1;
    $('k').value = ks.indexOf(chosen.k);
    $('k').addEventListener('input', () => {
        chosen.k = ks[$('k').value];
        schedule('k');
    });
    $('refine').checked = false; // browsers keep it over a reload
    $('refine').addEventListener('change', () => {
        engine.refine($('refine').checked);
        schedule('word'); // the curve is that of refined codes too
    });
    combobox($('word'), $('word-list'), {
        find: findWords,
        take: takeWord,
        missed: (text) => { $('word-hint').textContent = `“${text}” is not among the words`; },
    });
    combobox($('add'), $('add-list'), { find: findConcepts, take: addConcept, missed: () => {} });
    $('more').addEventListener('click', () => {
        chosen.showAll = !chosen.showAll;
        schedule('k');
    });
    $('reset').addEventListener('click', () => {
        chosen.pushes.clear();
        schedule('k');
        $('word').focus();
    });
    new ResizeObserver(() => schedule('size')).observe($('plot'));
    $('build').textContent = `${engine.latents.toLocaleString('en')} concepts; this browser runs ` +
        `the ${engine.path} build.`;
    $('message').hidden = true;
    $('main').hidden = $('strip').hidden = false;
    takeWord(asked ?? engine.numbers.get(FIRST_WORD) ?? 0);
}

try {
    engine = await load();
    start();
} catch (error) {
    $('message').textContent = `This did not work: ${error.message}`;
    $('message').classList.add('failed');
    $('message').setAttribute('role', 'alert');
    $('message').hidden = false;
    throw error;
}

export { engine }; // for the test, which asks for whole vectors
