// Makes ktx2.json: textures of the reference encoder with what the reference transcoder makes of them.
//   npm install ktx2-encoder@0.6.0 && node make_ktx2.mjs
import { writeFileSync } from 'node:fs';
import BASIS from './node_modules/ktx2-encoder/dist/basis/basis_encoder.js';
const basis = await BASIS();
basis.initializeBasis();
const RGBA32 = 13;

let state = 1;
const random = () => (state = (state * 48271) % 2147483647) / 2147483647;
// Patches of noise, gradients, flat colour and edges, so that an encoder uses its whole range of modes.
function picture(width, height, alpha, grey) {
  const pixels = new Uint8Array(width * height * 4);
  for (let y = 0; y < height; ++y) for (let x = 0; x < width; ++x) {
    const patch = ((x >> 4) + 3 * (y >> 4)) % 7;
    const edge = (x * 3 + y * 2) % 11 < 5;
    const noise = random() * 60;
    let rgba = [[x * 4, y * 5, 128, 255 - x * 3], [200, 30 + (y >> 3), 90, 40], [noise, noise * 2, 255 - noise, 120 + noise],
      edge ? [250, 20, 30, 255] : [10, 60, 240, 90], [128 + 60 * Math.sin(x / 2), 128 + 60 * Math.cos(y / 3), x * y, x * 8],
      edge ? [noise, 90, 10, 30] : [240, 250 - noise, 200, 250], [random() * 255, random() * 255, random() * 255, random() * 255]][patch];
    if (grey) rgba = [rgba[0], rgba[0], rgba[0], rgba[3]];
    if (!alpha) rgba[3] = 255;
    for (let c = 0; c < 4; ++c) pixels[4 * (y * width + x) + c] = Math.max(0, Math.min(255, rgba[c]));
  }
  return pixels;
}

const cases = [];
function add(name, width, height, pixels, settings) {
  const encoder = new basis.BasisEncoder();
  encoder.setCreateKTX2File(true);
  encoder.setSliceSourceImage(0, pixels, width, height, basis.ldr_image_type.cRGBA32.value);
  for (const [key, value] of Object.entries(settings)) encoder[key](value);
  const buffer = new Uint8Array(1 << 20);
  const file = buffer.slice(0, encoder.encode(buffer));
  encoder.delete();
  const ktx2 = new basis.KTX2File(file);
  ktx2.startTranscoding();
  const rgba = new Uint8Array(ktx2.getImageTranscodedSizeInBytes(0, 0, 0, RGBA32));
  if (!ktx2.transcodeImage(rgba, 0, 0, 0, RGBA32, 0, -1, -1)) throw new Error(name);
  const base64 = (b) => Buffer.from(b).toString('base64');
  cases.push({ name, width, height, ktx2: base64(file), rgba: base64(rgba) });
}
for (const alpha of [false, true]) for (const grey of [false, true]) {
  const name = (grey ? 'grey' : 'colour') + (alpha ? ' alpha' : '');
  for (const [w, h] of [[61, 47], [4, 4], [1, 3]])
    add(`etc1s ${name} ${w}x${h}`, w, h, picture(w, h, alpha, grey), { setUASTC: false, setETC1SCompressionLevel: 2, setQualityLevel: 128, setMipGen: w == 61 });
  for (const level of [1, 3])
    add(`uastc ${name} level ${level}`, 61, 47, picture(61, 47, alpha, grey), { setUASTC: true, setPackUASTCFlags: level, setKTX2UASTCSupercompression: level == 1 });
}
add('uastc noise', 32, 32, new Uint8Array(4096).map(() => random() * 256), { setUASTC: true, setPackUASTCFlags: 4, setKTX2UASTCSupercompression: false });

// Random blocks of every mode and partition pattern, as many as the transcoder accepts, in one texture.
const codes = [[1, 4], [0x35, 6], [0x1d, 5], [3, 5], [0x13, 5], [0xb, 5], [0x1b, 5], [7, 5], [0x17, 5], [0xf, 5],
  [2, 3], [0, 2], [6, 3], [0x1f, 5], [0xd, 5], [5, 7], [0x15, 6], [0x25, 6], [9, 4]];
const patternBits = { 2: [20, 5, 30], 3: [20, 4, 11], 4: [20, 5, 30], 7: [20, 5, 19], 9: [28, 5, 30], 16: [29, 5, 30] };
function encodeBlank(size) {
  const encoder = new basis.BasisEncoder();
  encoder.setCreateKTX2File(true); encoder.setUASTC(true); encoder.setKTX2UASTCSupercompression(false);
  encoder.setSliceSourceImage(0, picture(size, size, true, false), size, size, basis.ldr_image_type.cRGBA32.value);
  const buffer = new Uint8Array(1 << 16);
  const file = buffer.slice(0, encoder.encode(buffer));
  encoder.delete();
  return file;
}
function transcode(file) {
  const ktx2 = new basis.KTX2File(file);
  ktx2.startTranscoding();
  const rgba = new Uint8Array(ktx2.getImageTranscodedSizeInBytes(0, 0, 0, RGBA32));
  const ok = ktx2.transcodeImage(rgba, 0, 0, 0, RGBA32, 0, -1, -1);
  ktx2.close(); ktx2.delete();
  return ok ? rgba : null;
}
const small = encodeBlank(4), all = [];
const setBits = (block, at, count, value) => { for (let i = 0; i < count; ++i) {
  const bit = at + i; block[bit >> 3] = block[bit >> 3] & ~(1 << (bit & 7)) | ((value >> i) & 1) << (bit & 7); } };
codes.forEach(([code, length], mode) => {
  const [at, bits, count] = patternBits[mode] ?? [0, 0, 8];
  for (let pattern = 0; pattern < count; ++pattern) for (let tries = 0; ; ++tries) {
    const block = new Uint8Array(16).map(() => random() * 256);
    setBits(block, 0, length, code);
    setBits(block, at, bits, pattern);
    small.set(block, small.length - 16);
    if (transcode(small)) { all.push(block); break; }
    if (tries == 200) throw new Error('no block of mode ' + mode);
  }
});
const side = 64, large = encodeBlank(side), blocks = (side / 4) ** 2;
for (let i = 0; i < blocks; ++i) large.set(all[i % all.length], large.length - 16 * (blocks - i));
const rgba = transcode(large), base64 = (b) => Buffer.from(b).toString('base64');
cases.push({ name: 'uastc every mode', width: side, height: side, ktx2: base64(large), rgba: base64(rgba) });
writeFileSync('ktx2.json', JSON.stringify(cases).replaceAll('},{', '},\n{') + '\n');
