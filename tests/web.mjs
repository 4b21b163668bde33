// Drives the page of `make web` in headless Chromium as a person does, by mouse and by keys, and
// compares what it shows with the tool: node tests/web.mjs CHROMIUM TOOL FOLDER
// Takes screenshots into FOLDER. Needs nothing but node.
import { execFileSync, spawn } from 'node:child_process';
import { createReadStream, existsSync, mkdtempSync, readFileSync, rmSync, statSync,
    writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { extname, join, normalize } from 'node:path';
import { argv, exit } from 'node:process';

const [chromium, tool, folder] = argv.slice(2);
const work = mkdtempSync(join(tmpdir(), 'msae-web-'));
const model = join(folder, 'data/model.safetensors'), vectors = join(folder, 'data/vectors.npy');
const words = readFileSync(join(folder, 'data/words.txt'), 'utf8').split('\n');
const WEIGHT = 300 * 1024, TOP = 10;
let passed = 0, failed = 0;

function check(ok, what) {
    if (ok) passed++;
    else failed++;
    if (!ok) console.log(`FAILED: ${what}`);
}

// --- the tool's answers -----------------------------------------------------------------------
const run = (...options) => execFileSync(tool, options,
    { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });

// One row of the words' vectors as a file of its own; the header keeps its length.
function rowFile(row) {
    const all = readFileSync(vectors), start = 10 + all.readUInt16LE(8);
    const header = all.toString('latin1', 0, start);
    const [, rows, cols] = header.match(/\((\d+), (\d+)\)/);
    const one = header.replace(`(${rows}, ${cols})`,
        `(1, ${cols})`.padEnd(rows.length + cols.length + 4));
    const path = join(work, 'row.npy'), bytes = 2 * Number(cols);
    writeFileSync(path, Buffer.concat([Buffer.from(one, 'latin1'),
        all.subarray(start + row * bytes, start + (row + 1) * bytes)]));
    return path;
}

function toolCodes(row, k, options = []) {
    const path = join(work, 'codes.safetensors');
    run('encode', model, rowFile(row), '-o', path, '--k', String(k), ...options);
    const file = readFileSync(path), length = Number(file.readBigUInt64LE(0));
    const header = JSON.parse(file.toString('utf8', 8, 8 + length));
    const at = (name) => 8 + length + header[name].data_offsets[0];
    return Array.from({ length: header.indices.shape[0] }, (_, i) => ({
        latent: file.readInt32LE(at('indices') + 4 * i),
        value: file.readFloatLE(at('values') + 4 * i),
    }));
}

// What the tool rebuilds from k concepts with some set to other values.
function toolVector(row, k, pushes) {
    const path = join(work, 'out.npy');
    if (pushes.length) {
        run('steer', model, rowFile(row), '-o', path, '--k', String(k),
            '--raw', '--set', pushes.map(([latent, value]) => `${latent}=${value}`).join(','));
    } else {
        toolCodes(row, k);
        run('decode', model, join(work, 'codes.safetensors'), '-o', path);
    }
    const file = readFileSync(path), start = 10 + file.readUInt16LE(8);
    return Array.from({ length: (file.length - start) / 4 },
        (_, i) => file.readFloatLE(start + 4 * i));
}

// An edit that changes nothing makes the search compare what the codes decode to.
function toolNearest(row, k, pushes, strongest) {
    const edit = pushes.length ? pushes.map(([latent, value]) => `${latent}=${value}`).join(',') :
        `${strongest}=+0`;
    const found = JSON.parse(run('search', model, vectors, '--row', String(row), '--k', String(k),
        '--raw', '--edit', edit, '--top', String(TOP), '--json').split('\n')[0]);
    return found.by_embedding;
}

// --- a static server, and the browser behind a pipe -------------------------------------------
const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css' };
const server = createServer((request, response) => {
    const path = join(folder, normalize(new URL(request.url, 'http://host').pathname));
    const file = path.endsWith('/') ? join(path, 'index.html') : path;
    if (!existsSync(file)) {
        response.writeHead(404).end();
        return;
    }
    response.writeHead(200, {
        'content-type': TYPES[extname(file)] ?? 'application/octet-stream',
        'content-length': statSync(file).size,
        'cache-control': 'no-store',
    });
    createReadStream(file).pipe(response);
});
await new Promise((ready) => server.listen(0, '127.0.0.1', ready));
const site = `http://127.0.0.1:${server.address().port}/`;

const browser = spawn(chromium, ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic',
    '--no-first-run', '--disable-background-networking', '--disable-component-update',
    '--disable-sync', '--hide-scrollbars', `--user-data-dir=${join(work, 'profile')}`,
    '--remote-debugging-pipe', 'about:blank'],
{ stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] });
const [, , , toBrowser, fromBrowser] = browser.stdio;
const ended = new Promise((done) => browser.on('exit', done));
browser.on('error', (error) => leave(error.message));
const limit = setTimeout(() => leave('no end after three minutes'), 180e3);

async function leave(why) {
    clearTimeout(limit);
    if (why) console.log(`FAILED: ${why}`);
    browser.kill();
    await ended;
    server.close();
    rmSync(work, { recursive: true, force: true, maxRetries: 5 });
    exit(why || failed ? 1 : 0);
}

// Messages are JSON between zero bytes.
let received = '', nextId = 1;
const answers = new Map(), events = [];
fromBrowser.setEncoding('utf8');
fromBrowser.on('data', (chunk) => {
    const messages = (received + chunk).split('\0');
    received = messages.pop();
    for (const message of messages.map((m) => JSON.parse(m))) {
        if (message.id) {
            const { done, refuse } = answers.get(message.id);
            answers.delete(message.id);
            if (message.error) refuse(new Error(message.error.message));
            else done(message.result);
        } else {
            events.push(message);
        }
    }
});
let session;
function send(method, params = {}) {
    const id = nextId++;
    toBrowser.write(`${JSON.stringify({ id, method, params, sessionId: session })}\0`);
    return new Promise((done, refuse) => answers.set(id, { done, refuse }));
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

async function evaluate(expression) {
    const { result, exceptionDetails } = await send('Runtime.evaluate',
        { expression, awaitPromise: true, returnByValue: true });
    if (exceptionDetails) {
        throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    }
    return result.value;
}

async function until(expression, what) {
    for (let i = 0; i < 300; i++) {
        if (await evaluate(expression)) return;
        await pause(50);
    }
    throw new Error(`waited in vain for ${what}`);
}

// Two frames: what was asked for in the first is drawn in the second.
const settle = () => evaluate(
    'new Promise((d) => requestAnimationFrame(() => requestAnimationFrame(d)))');

const KEYS = { Enter: 13, PageUp: 33, End: 35, Home: 36, ArrowLeft: 37, ArrowUp: 38, ArrowRight: 39,
    ArrowDown: 40, Delete: 46, Escape: 27, Tab: 9 };
async function key(name) {
    const params = { key: name, code: name, windowsVirtualKeyCode: KEYS[name] };
    if (name === 'Enter') params.text = '\r';
    await send('Input.dispatchKeyEvent', { type: 'keyDown', ...params });
    await send('Input.dispatchKeyEvent', { type: 'keyUp', ...params });
    await settle();
}

async function boxOf(selector) {
    return evaluate(`(() => { const e = document.querySelector(${JSON.stringify(selector)});
        e.scrollIntoView({ block: 'center' });
        const { x, y, width, height } = e.getBoundingClientRect();
        return { x, y, width, height }; })()`);
}

// Presses at one share of an element's width, moves to another, lets go.
async function drag(selector, from, to) {
    const box = await boxOf(selector), y = box.y + box.height / 2;
    const at = (share) =>
        ({ x: box.x + box.width * share, y, button: 'left', buttons: 1, clickCount: 1 });
    await send('Input.dispatchMouseEvent', { type: 'mousePressed', ...at(from) });
    for (let i = 1; i <= 8 && to !== from; i++) {
        await send('Input.dispatchMouseEvent',
            { type: 'mouseMoved', ...at(from + (to - from) * i / 8) });
    }
    await send('Input.dispatchMouseEvent', { type: 'mouseReleased', ...at(to) });
    await settle();
}
const click = (selector) => drag(selector, 0.5, 0.5);

async function typeInto(selector, text) {
    await click(selector);
    await evaluate(`document.querySelector(${JSON.stringify(selector)}).select()`);
    await send('Input.insertText', { text });
    await settle();
}

const shown = () => evaluate(`({
    k: Number(document.querySelector('#k-value').textContent),
    cosine: Number(document.querySelector('#cosine').dataset.value),
    lost: Number(document.querySelector('#lost').dataset.value),
    bars: [...document.querySelectorAll('#bars li')].map((li) => ({
        latent: Number(li.dataset.latent), value: Number(li.dataset.value),
        pushed: li.classList.contains('pushed') })),
    rebuilt: [...document.querySelectorAll('#rebuilt li')].map((li) => ({
        row: Number(li.dataset.word), cosine: Number(li.dataset.cosine) })),
    word: document.querySelector('#word').value,
})`);

const isNear = (a, b) => Math.abs(a - b) <= 1e-4;

// What the page shows of a word is what the tool computes.
async function compare(what, row, k, pushes) {
    const page = await shown(), codes = toolCodes(row, k);
    check(page.word === words[row] && page.k === k, `${what}: the word and k`);
    const isPlain = ({ latent }) => !pushes.some(([pushed]) => pushed === latent);
    const plain = page.bars.filter(isPlain);
    const strongest = codes.filter(isPlain).slice(0, plain.length);
    check(plain.length >= Math.min(k, 16) - pushes.length &&
        plain.every(({ latent, value }, i) => latent === strongest[i].latent &&
            isNear(value, strongest[i].value)), `${what}: the same concepts`);
    const all = await evaluate(`import('./page.js').then(({ engine }) => {
        const codes = engine.encode(${k});
        return { codes, vector: [...engine.rebuild(${JSON.stringify(pushes)}).vector] }; })`);
    check(all.codes.length === codes.length && all.codes.every((code, i) =>
        code.latent === codes[i].latent && isNear(code.value, codes[i].value)),
    `${what}: all codes`);
    const want = toolVector(row, k, pushes);
    check(want.length === all.vector.length && want.every((v, i) => isNear(v, all.vector[i])),
        `${what}: the same reconstruction`);
    const nearest = toolNearest(row, k, pushes, codes[0].latent);
    const others = page.rebuilt.filter((hit) => hit.row !== row).slice(0, TOP);
    check(others.length === TOP && others.every((hit, i) => hit.row === nearest[i].row &&
        isNear(hit.cosine, nearest[i].cosine)), `${what}: the same nearest words`);
}

// --- the page in one of its builds ------------------------------------------------------------
async function visit(build) {
    const seen = events.length;
    await send('Page.navigate', { url: `${site}${build === 'scalar' ? '?simd=off' : ''}` });
    await until(`document.querySelector('#time')?.dataset.value !== undefined`, 'the page');
    await settle();
    const files = events.slice(seen).filter(({ method }) => method === 'Network.requestWillBeSent')
        .map(({ params }) => params.request.url);
    check(files.some((url) => url.endsWith(`msae-${build}.wasm`)), `the ${build} build is loaded`);
    check(files.filter((url) => url.endsWith('.wasm')).length === 1, 'and no other');
    return loaded(seen);
}

// Bytes that came over the wire since an event, without model and word data.
function loaded(seen) {
    const urls = new Map();
    let bytes = 0;
    for (const { method, params } of events.slice(seen)) {
        if (method === 'Network.requestWillBeSent') urls.set(params.requestId, params.request.url);
        const isData = urls.get(params.requestId)?.includes('/data/');
        if (method === 'Network.loadingFinished' && !isData) bytes += params.encodedDataLength;
    }
    return bytes;
}

async function useWord(build) {
    const row = words.indexOf('ocean');
    await typeInto('#word', 'oce');
    check(await evaluate(`document.querySelector('#word').ariaExpanded === 'true' &&
        document.querySelector('#word-list li')?.textContent === 'ocean'`), 'words are suggested');
    await key('ArrowDown');
    check(await evaluate(`document.querySelector('#word').getAttribute('aria-activedescendant') ===
        'word-list-0'`), 'a suggestion is reached by key');
    await key('Enter');
    await compare(`${build}, typed`, row, 16, []);

    await drag('#k', 0.365, 0.58); // from the thumb of 16, the eighth of 20 values
    const { k } = await shown();
    check(k > 16, `${build}: the slider was dragged to ${k}`);
    await compare(`${build}, slider dragged`, row, k, []);
    await key('ArrowLeft');
    const lower = (await shown()).k;
    check(lower < k, 'the slider moves by key');
    await compare(`${build}, slider by key`, row, lower, []);

    const asEncoded = await shown();
    await click('#refine');
    const refined = await shown();
    check(refined.lost < 0.98 * asEncoded.lost && refined.bars.length <= asEncoded.bars.length,
        `${build}: refined codes lose less with no more concepts`);
    const ours = toolCodes(row, lower, ['--refine', '1']);
    const theirs = await evaluate(
        `import('./page.js').then(({ engine }) => engine.encode(${lower}))`);
    // (the last digits decide when to stop, and which of two latents that are as good enters)
    const same = theirs.filter(({ latent, value }) => ours.some((code) =>
        code.latent === latent && Math.abs(code.value - value) < 0.02 * Math.abs(value) + 0.02));
    check(same.length >= 0.9 * ours.length, `${build}: as the tool refines`);
    await click('#refine');
    await compare(`${build}, not refined again`, row, lower, []);

    const before = await shown(), { latent } = before.bars[1];
    const bar = `#bars li[data-latent="${latent}"] .bar`;
    await drag(bar, 0.3, 0.9);
    let pushed = await shown();
    const valueOf = (page, which) => page.bars.find((b) => b.latent === which).value;
    check(valueOf(pushed, latent) > 1.2 * before.bars[1].value, `${build}: a bar was pushed`);
    check(pushed.rebuilt.some(({ row: word }, i) => word !== before.rebuilt[i].row),
        'and the words moved');
    check(pushed.cosine < before.cosine, 'and the cosine fell');
    await compare(`${build}, bar dragged`, row, lower, [[latent, valueOf(pushed, latent)]]);

    await key('ArrowLeft');
    await key('ArrowLeft');
    const keyed = valueOf(await shown(), latent);
    check(keyed < valueOf(pushed, latent), 'a bar moves by key');
    const other = before.bars[0].latent;
    await evaluate(`document.querySelector('#bars li[data-latent="${other}"] .bar').focus()`);
    await key('Home');
    check(valueOf(await shown(), other) === 0, 'Home empties a bar');
    await compare(`${build}, bars by key`, row, lower, [[latent, keyed], [other, 0]]);
    await key('Delete');
    check(valueOf(await shown(), other) === before.bars[0].value, 'Delete undoes a push');

    await typeInto('#add', 'music');
    await key('Enter');
    await pause(100);
    pushed = await shown();
    const added = pushed.bars[pushed.bars.length - 1];
    check(pushed.bars.length === before.bars.length + 1 && added.pushed, 'a concept is added');
    await compare(`${build}, added`, row, lower, [[latent, keyed], [added.latent, added.value]]);
    await click('#reset');
    pushed = await shown();
    check(pushed.bars.every((b) => !b.pushed) && pushed.cosine === before.cosine, 'all is undone');

    await typeInto('#word', 'qqqqq');
    await key('Enter');
    check(await evaluate(`document.querySelector('#word-hint').textContent.includes('not among')`),
        'an unknown word is said to be one');
    await key('Escape');
    await typeInto('#word', 'Ocean');
    await key('Enter');
    await until(`document.querySelector('#live').textContent.includes('ocean, ')`,
        'the announcement');
}

// A finger pushes a bar when it moves sideways, and not when it only touches.
async function touch() {
    const selector = '#bars li:first-child .bar', { bars: [before] } = await shown();
    const box = await boxOf(selector), y = box.y + box.height / 2;
    const at = (share) => ({ touchPoints: [{ x: box.x + box.width * share, y }] });
    await send('Input.dispatchTouchEvent', { type: 'touchStart', ...at(0.1) });
    await settle();
    check((await shown()).bars[0].value === before.value, 'a touch alone pushes nothing');
    for (const share of [0.15, 0.2, 0.25, 0.3]) {
        await send('Input.dispatchTouchEvent', { type: 'touchMove', ...at(share) });
    }
    await send('Input.dispatchTouchEvent', { type: 'touchEnd', touchPoints: [] });
    await settle();
    const { bars: [after] } = await shown();
    check(after.pushed && after.value < before.value, 'a finger pushes a bar');
}

// Every control has a name for those who do not see it.
async function checkNames() {
    const { nodes } = await send('Accessibility.getFullAXTree');
    const roles = ['button', 'slider', 'combobox', 'region', 'img', 'image'];
    const nameless = nodes.filter((node) => !node.ignored && roles.includes(node.role?.value) &&
        !node.name?.value);
    check(nameless.length === 0, `${nameless.length} controls without a name`);
    const count = (role) => nodes.filter((n) => !n.ignored && n.role?.value === role).length;
    check(count('slider') >= 17 && count('combobox') === 2, 'sliders and fields are seen as such');
}

// The whole page, or what a screen of that size shows around the element `at`.
async function screenshot(name, width, height, mobile, theme, at) {
    await send('Emulation.setDeviceMetricsOverride',
        { width, height, deviceScaleFactor: mobile ? 2 : 1, mobile });
    await send('Emulation.setEmulatedMedia', { features: [
        { name: 'prefers-color-scheme', value: theme },
        { name: 'prefers-reduced-motion', value: 'reduce' }] });
    await evaluate(`document.activeElement.blur(); scrollTo(0, 0);
        ${at ? `document.querySelector('${at}').scrollIntoView()` : ''}`);
    await settle();
    await pause(200);
    const size = await evaluate(`({ width: document.documentElement.scrollWidth,
        height: document.documentElement.scrollHeight, inner: innerWidth })`);
    check(size.width <= width, `${name}: ${size.width} pixels wide, ${width} are there`);
    const { data } = await send('Page.captureScreenshot', at ? {} : { captureBeyondViewport: true,
        clip: { x: 0, y: 0, width, height: size.height, scale: 1 } });
    writeFileSync(join(folder, `${name}.png`), Buffer.from(data, 'base64'));
}

try {
    const { targetInfos } = await send('Target.getTargets');
    const { targetId } = targetInfos.find(({ type }) => type === 'page');
    ({ sessionId: session } = await send('Target.attachToTarget', { targetId, flatten: true }));
    for (const domain of ['Page', 'Runtime', 'Network', 'Log', 'Accessibility']) {
        await send(`${domain}.enable`);
    }
    await send('Emulation.setDeviceMetricsOverride',
        { width: 1200, height: 900, deviceScaleFactor: 1, mobile: false });
    for (const build of ['simd128', 'scalar']) {
        const bytes = await visit(build);
        check(bytes < WEIGHT, `${build}: ${bytes} bytes`);
        const time = await evaluate(`Number(document.querySelector('#time').dataset.value)`);
        check(time > 0 && time < 1000, `${build}: ${time} microseconds to encode`);
        console.log(`${build}: ${(bytes / 1024).toFixed(0)} KB without model and words, ` +
            `${time.toFixed(1)} us to encode a word`);
        await useWord(build);
        const steps = await evaluate(`import('./page.js').then(({ engine }) => {
            const start = performance.now();
            for (let i = 0; i < 10; i++) engine.nearest(true, 11);
            return { nearest: (performance.now() - start) / 10, encode: engine.measure(32) }; })`);
        check(steps.encode < 1000, `${build}: ${steps.encode} microseconds to encode, warm`);
        console.log(`  warm: ${steps.encode.toFixed(1)} us for k = 32, ` +
            `${steps.nearest.toFixed(1)} ms for the nearest words`);
    }
    await visit('simd128');
    await checkNames();
    await drag('#bars li:nth-child(3) .bar', 0.3, 0.95);
    for (const theme of ['light', 'dark']) await screenshot(theme, 1200, 900, false, theme);
    const background = () => evaluate('getComputedStyle(document.body).backgroundColor');
    const darkPage = await background();
    await click('#theme');
    check(await background() !== darkPage, 'the button changes the theme');
    await evaluate(`localStorage.clear(); delete document.documentElement.dataset.theme`);
    check(await evaluate(`parseFloat(getComputedStyle(document.querySelector('.fill'))
        .transitionDuration) === 0`), 'nothing moves for those who want it so');
    await screenshot('phone', 390, 844, true, 'light');
    await send('Emulation.setTouchEmulationEnabled', { enabled: true });
    await touch();
    await screenshot('phone-bars', 390, 844, true, 'light', '#bars');
    await screenshot('phone-words', 390, 844, true, 'light', '#nearest-title');
    await screenshot('phone-dark', 390, 844, true, 'dark');

    const errors = events.filter(({ method, params }) => method === 'Runtime.exceptionThrown' ||
        (method === 'Runtime.consoleAPICalled' && ['error', 'warning'].includes(params.type)) ||
        (method === 'Log.entryAdded' && params.entry.level === 'error'));
    const told = JSON.stringify(errors.map(({ params }) => params)).slice(0, 600);
    check(errors.length === 0, `the console has ${told}`);
    const elsewhere = events.filter(({ method }) => method === 'Network.requestWillBeSent')
        .map(({ params }) => params.request.url)
        .filter((url) => !url.startsWith(site) && !url.startsWith('data:'));
    check(elsewhere.length === 0, `requests to ${elsewhere}`);
} catch (error) {
    check(false, error.stack);
}
console.log(`${passed} passed, ${failed} failed`);
await leave();
