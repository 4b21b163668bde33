// The other side of msae_web.c: loads the build that this browser can run, the model, the words and
// their vectors, and turns pointers into numbers.

// The smallest module that has a 128-bit vector: () -> i8x16.splat(0).
const WITH_SIMD = Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0,
    10, 8, 1, 6, 0, 65, 0, 253, 15, 11);

async function fetched(path) {
    const response = await fetch(path);
    if (!response.ok) throw new Error(`${path}: ${response.status} ${response.statusText}`);
    return response;
}

const text = async (path) => (await fetched(path)).text();
const bytes = async (path) => new Uint8Array(await (await fetched(path)).arrayBuffer());
const lines = (all) => all.split(/\r?\n/).filter((line) => line !== '');

// names.tsv as `msae name` writes it, to one { name, top } for each latent.
function readNames(table, latents) {
    const names = Array.from({ length: latents }, (_, i) => ({ name: `concept ${i}`, top: [] }));
    const [header, ...rows] = lines(table).map((line) => line.split('\t'));
    const [latent, name, top] = ['latent', 'name', 'top'].map((column) => header.indexOf(column));
    for (const row of rows) {
        const entry = names[Number(row[latent])];
        if (!entry) continue;
        if (row[name]) entry.name = row[name];
        if (row[top]) entry.top = row[top].split('; ').filter((word) => word !== entry.name);
    }
    return names;
}

export async function load() {
    const scalar = new URLSearchParams(location.search).get('simd') === 'off';
    const build = !scalar && WebAssembly.validate(WITH_SIMD) ? 'simd128' : 'scalar';
    const [code, model, vectors, words, names, curve] = await Promise.all([
        bytes(`msae-${build}.wasm`), bytes('data/model.safetensors'), bytes('data/vectors.npy'),
        text('data/words.txt'), text('data/names.tsv'), text('data/fvu.jsonl'),
    ]);
    // Bytes rather than a stream: a static server may not know the type of .wasm.
    const { instance } = await WebAssembly.instantiate(code, {
        env: { emscripten_notify_memory_growth() {} },
    });
    return new Engine(instance.exports, model, vectors, lines(words), names,
        lines(curve).map((line) => JSON.parse(line)));
}

class Engine {
    constructor(c, model, vectors, words, names, curve) {
        this.c = c;
        c._initialize?.(); // both compilers give a library this to call first
        const place = (block) => {
            const at = c.web_alloc(block.length);
            if (!at) throw new Error('out of memory');
            new Uint8Array(c.memory.buffer, at, block.length).set(block);
            return at;
        };
        const modelAt = place(model);
        if (!c.web_open(modelAt, model.length, place(vectors), vectors.length)) this.fail();
        c.web_free(modelAt);
        this.path = this.string(c.web_path());
        this.latents = c.web_latents();
        this.words = words;
        this.numbers = new Map(words.map((word, i) => [word, i]));
        this.names = readNames(names, this.latents);
        this.levels = [];
        for (let k; (k = c.web_level(this.levels.length)) > 0;) this.levels.push(k);
        this.curve = curve.map(({ k, fvu_row: lost }) => ({ k, lost }));
        if (words.length !== c.web_words()) {
            throw new Error(`${words.length} words, but ${c.web_words()} vectors`);
        }
    }

    fail() {
        throw new Error(this.string(this.c.web_error()));
    }

    string(at) {
        const memory = new Uint8Array(this.c.memory.buffer, at);
        return new TextDecoder().decode(memory.slice(0, memory.indexOf(0)));
    }

    // Pairs of a number and a float, as codes and hits are.
    pairs(at, count, number, value) {
        const view = new DataView(this.c.memory.buffer, at, 8 * count);
        return Array.from({ length: count }, (_, i) => ({
            [number]: view.getUint32(8 * i, true), [value]: view.getFloat32(8 * i + 4, true),
        }));
    }

    take(word) {
        this.c.web_take(word);
    }

    // Refined codes from now on, or as they are encoded: one exchange is most of the gain.
    refine(on) {
        this.c.web_refine(on ? 1 : 0, 1);
    }

    // The word's k strongest concepts, [{ latent, value }].
    encode(k) {
        return this.pairs(this.c.web_codes(), this.c.web_encode(k), 'latent', 'value');
    }

    // Rebuilds the word from the codes of the last encode with some of them set to other values.
    rebuild(pushes) {
        for (const [latent, value] of pushes) {
            if (!this.c.web_edit(latent, value)) this.fail();
        }
        const at = this.c.web_decode();
        return {
            vector: new Float32Array(this.c.memory.buffer, at, this.c.web_inputs()).slice(),
            cosine: this.c.web_cosine(),
            lost: this.c.web_lost(),
        };
    }

    // The words nearest to the word or to what was rebuilt, [{ word, cosine }].
    nearest(rebuilt, top) {
        const count = this.c.web_nearest(rebuilt ? 1 : 0, top);
        return this.pairs(this.c.web_hits(), count, 'word', 'cosine');
    }

    // What of the word is lost at each k, without pushes.
    lostAt(ks) {
        new Uint32Array(this.c.memory.buffer, this.c.web_ks(), ks.length).set(ks);
        const at = this.c.web_curve(ks.length);
        if (!at) this.fail();
        return [...new Float32Array(this.c.memory.buffer, at, ks.length)];
    }

    // Microseconds that one encode takes: clocks in browsers are coarse, so as many as take
    // 2 milliseconds, and the median of eleven such rounds, as other programs take their turns.
    measure(k) {
        const round = (times) => {
            const start = performance.now();
            for (let i = 0; i < times; i++) this.c.web_encode(k);
            return performance.now() - start;
        };
        let times = 8;
        while (round(times) < 2 && times < 1 << 20) times *= 2;
        const rounds = Array.from({ length: 11 }, () => round(times)).sort((a, b) => a - b);
        return rounds[5] / times * 1000;
    }
}
