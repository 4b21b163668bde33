// Runs a WebAssembly program built for WASI: node tests/wasi.mjs PROGRAM.wasm [FOLDER ..]
// It sees /tmp and the folders named, which must be absolute.
import { readFile } from 'node:fs/promises';
import { argv } from 'node:process';
import { WASI } from 'node:wasi';

const [program, ...folders] = argv.slice(2);
const preopens = Object.fromEntries(['/tmp', ...folders].map((folder) => [folder, folder]));
const wasi = new WASI({ version: 'preview1', args: [program, ...folders], preopens });
const module = await WebAssembly.compile(await readFile(program));
process.exitCode = wasi.start(await WebAssembly.instantiate(module, wasi.getImportObject()));
