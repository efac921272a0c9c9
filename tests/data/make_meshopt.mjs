// Makes meshopt.json: streams of the reference encoder with what the reference decoder makes of them.
//   npm install meshoptimizer@1.3.0 && node make_meshopt.mjs > meshopt.json
import { MeshoptEncoder as enc } from 'meshoptimizer/encoder';
import { MeshoptDecoder as dec } from 'meshoptimizer/decoder';
await enc.ready; await dec.ready;

let state = 1;
const random = () => (state = (state * 48271) % 2147483647) / 2147483647;
const bytes = (array) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
const cases = [];
function add(name, stream, count, stride, mode, filter = 'NONE') {
  const decoded = new Uint8Array(count * stride);
  dec.decodeGltfBuffer(decoded, count, stride, stream, mode, filter);
  const base64 = (b) => Buffer.from(b).toString('base64');
  cases.push({ name, count, stride, mode, filter, stream: base64(stream), decoded: base64(decoded) });
}

const data = {
  zero: (n, s) => new Uint8Array(n * s),
  noise: (n, s) => new Uint8Array(n * s).map(() => random() * 256),
  small: (n, s) => { const a = new Uint8Array(n * s);
    for (let i = 0; i < a.length; ++i) a[i] = (i >= s ? a[i - s] : 7) + (random() < 0.1 ? 40 : random() * 3); return a; },
  words: (n, s) => { const a = new Uint16Array(n * s / 2);
    for (let i = 0; i < a.length; ++i) a[i] = (2 * i >= s ? a[i - s / 2] : 500) + random() * 300 - 150; return bytes(a); },
  floats: (n, s) => { const a = new Float32Array(n * s / 4);
    for (let i = 0; i < a.length; ++i) a[i] = Math.sin(i * 4 / s / 9 + i % (s / 4)) * 5; return bytes(a); },
};
for (const version of [0, 1])
  for (const [kind, make] of Object.entries(data))
    for (const [n, s] of [[1, 4], [16, 8], [17, 12], [260, 4], ...(['small', 'zero'].includes(kind) ? [[130, 64], [33, 256]] : [])])
      for (const level of version ? [1, 3] : [2])
        add(`${kind} v${version} level ${level}`, enc.encodeVertexBufferLevel(make(n, s), n, s, level, version), n, s, 'ATTRIBUTES');

const unit = (n, k) => { const a = new Float32Array(n * 4);
  for (let i = 0; i < n; ++i) { const v = Array.from({ length: k }, () => random() - 0.5); const l = Math.hypot(...v);
    for (let j = 0; j < 4; ++j) a[4 * i + j] = j < k ? v[j] / l : (random() < 0.5 ? -1 : 1); } return a; };
const N = 50;
const filtered = (f, source, s, filter) => add(filter + s, enc.encodeVertexBuffer(f, N, s), N, s, 'ATTRIBUTES', filter);
for (const [s, bits] of [[4, 8], [4, 6], [8, 16], [8, 10]]) {
  filtered(enc.encodeFilterOct(unit(N, 3), N, s, bits), null, s, 'OCTAHEDRAL');
  filtered(enc.encodeFilterColor(new Float32Array(N * 4).map(random), N, s, bits), null, s, 'COLOR');
}
for (const bits of [16, 9]) filtered(enc.encodeFilterQuat(unit(N, 4), N, 8, bits), null, 8, 'QUATERNION');
for (const s of [4, 12]) for (const bits of [8, 15])
  filtered(enc.encodeFilterExp(new Float32Array(N * s / 4).map((_, i) => (random() - 0.5) * 10 ** (i % 9 - 4)), N, s, bits), null, s, 'EXPONENTIAL');

const grid = []; const W = 12;
for (let y = 0; y + 1 < W; ++y) for (let x = 0; x + 1 < W; ++x) { const i = y * W + x; grid.push(i, i + 1, i + W, i + W, i + 1, i + W + 1); }
const soup = Array.from({ length: 150 }, () => Math.floor(random() * 60000));
const twice = grid.concat(grid);
const ordered = Uint32Array.from(grid); enc.reorderMesh(ordered, true, true);
const lists = { grid, soup, twice, ordered: Array.from(ordered), far: grid.map((i) => i + 3000000000) };
for (const [name, list] of Object.entries(lists)) for (const s of [2, 4]) {
  if (name == 'far' && s == 2) continue;
  const source = bytes(s == 2 ? Uint16Array.from(list) : Uint32Array.from(list));
  add(name, enc.encodeIndexBuffer(source, list.length, s), list.length, s, 'TRIANGLES');
  if (name != 'far') add(name, enc.encodeIndexSequence(source.slice(0, 100 * s), 100, s), 100, s, 'INDICES');
}
process.stdout.write(JSON.stringify(cases).replaceAll('},{', '},\n{') + '\n');
