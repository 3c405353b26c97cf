// A test pattern as PNG, so that the tests need no picture file. Format: https://www.w3.org/TR/png-3/.
import { crc32 } from "./crc32";
import { deflateSync } from "node:zlib";

/** A picture of `width` × `height` pixels: a gradient with a grid of 10 %, so that a shift is seen in a screenshot. */
export function testPattern(width: number, height: number): Buffer {
  const rows = Buffer.alloc(height * (1 + width * 3));
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const at = y * (1 + width * 3) + 1 + x * 3;
      const isLine =
        Math.floor((x * 10) / width) !== Math.floor(((x - 1) * 10) / width) ||
        Math.floor((y * 10) / height) !== Math.floor(((y - 1) * 10) / height);
      rows[at] = isLine ? 200 : 40 + (x * 80) / width;
      rows[at + 1] = isLine ? 200 : 60 + (y * 80) / height;
      rows[at + 2] = isLine ? 200 : 90;
    }
  }
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 2, 0, 0, 0], 8);
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  return Buffer.concat([signature, chunk("IHDR", header), chunk("IDAT", deflateSync(rows)), chunk("IEND", Buffer.alloc(0))]);
}

function chunk(type: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type, "latin1"), data]);
  const frame = Buffer.alloc(8);
  frame.writeUInt32BE(data.length, 0);
  frame.writeUInt32BE(crc32(body), 4);
  return Buffer.concat([frame.subarray(0, 4), body, frame.subarray(4)]);
}
