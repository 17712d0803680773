/**
 * A picture file as an image for the network: (C, H, W) in [0, 1].
 *
 * Its size is read from the file's first bytes, so that a picture of too many pixels is refused before it is decoded. It
 * is turned grey and brought to size as `isthmus encode --resize` does, the whole picture, whatever its sides; what is
 * transparent is white.
 */
import type { Shape } from "./degrade";
import { Told } from "./told";

const MOST = 64e6; // pixels, as everywhere in Isthmus
const MOST_BYTES = 256 * 2 ** 20;

export interface Size {
  kind: string;
  width: number;
  height: number;
}

/** Read a file somebody gave. Throws Told, by the file's name, if it is no picture or too large. */
export async function readPicture(file: File, shape: Shape): Promise<Float32Array> {
  if (file.size > MOST_BYTES)
    throw new Told(`${file.name} has ${Math.round(file.size / 2 ** 20)} MiB; give a picture of at most 256.`);
  const size = sizeOf(new Uint8Array(await file.arrayBuffer()));
  if (size === null)
    throw new Told(`${file.name} is no picture this page can read: give a PNG, JPEG, GIF, BMP or WebP file.`);
  if (size.width * size.height > MOST) {
    const million = (size.width * size.height) / 1e6;
    throw new Told(
      `${file.name} has ${size.width} × ${size.height} pixels, ${Math.round(million)} megapixels, and at most 64 are read: make it smaller.`,
    );
  }
  const [, height, width] = shape;
  const exact = size.width === width && size.height === height;
  let bitmap: ImageBitmap;
  try {
    bitmap = await createImageBitmap(
      file,
      exact ? {} : { resizeWidth: width, resizeHeight: height, resizeQuality: "high" },
    );
  } catch {
    throw new Told(`${file.name} begins like a ${size.kind} file and cannot be decoded: it is damaged.`);
  }
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  if (pen === null) throw new Told("This browser gives no memory for pictures: close other pages and reload.");
  pen.fillStyle = "#ffffff";
  pen.fillRect(0, 0, width, height);
  pen.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  return fromBytes(pen.getImageData(0, 0, width, height).data, shape);
}

/** RGBA bytes to (C, H, W): luma for one channel, Y = 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601). */
export function fromBytes(bytes: ArrayLike<number>, [channels, height, width]: Shape): Float32Array {
  const size = height * width;
  const found = new Float32Array(channels * size);
  for (let i = 0; i < size; i++) {
    const [r, g, b] = [bytes[4 * i] / 255, bytes[4 * i + 1] / 255, bytes[4 * i + 2] / 255];
    // Grey pixels stay what they are to the last bit.
    if (channels === 1) found[i] = r === g && g === b ? r : 0.299 * r + 0.587 * g + 0.114 * b;
    else for (let c = 0; c < channels; c++) found[c * size + i] = [r, g, b][c % 3];
  }
  return found;
}

/** What a file's first bytes say of its picture; null if they are of none known here. */
export function sizeOf(bytes: Uint8Array): Size | null {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const text = (at: number, count: number) => String.fromCharCode(...bytes.subarray(at, at + count));
  if (bytes.length >= 24 && text(0, 8) === "\x89PNG\r\n\x1a\n") {
    return sized("PNG", view.getUint32(16), view.getUint32(20));
  }
  if (bytes.length >= 10 && (text(0, 6) === "GIF87a" || text(0, 6) === "GIF89a")) {
    return sized("GIF", view.getUint16(6, true), view.getUint16(8, true));
  }
  if (bytes.length >= 26 && text(0, 2) === "BM") {
    return sized("BMP", Math.abs(view.getInt32(18, true)), Math.abs(view.getInt32(22, true)));
  }
  if (bytes.length >= 30 && text(0, 4) === "RIFF" && text(8, 4) === "WEBP") return webp(view, text(12, 4));
  if (bytes.length >= 4 && view.getUint16(0) === 0xffd8) return jpeg(view);
  return null;
}

function sized(kind: string, width: number, height: number): Size | null {
  return width > 0 && height > 0 ? { kind, width, height } : null;
}

function webp(view: DataView, kind: string): Size | null {
  if (kind === "VP8 ") return sized("WebP", view.getUint16(26, true) & 0x3fff, view.getUint16(28, true) & 0x3fff);
  if (kind === "VP8L") {
    const packed = view.getUint32(21, true);
    return sized("WebP", (packed & 0x3fff) + 1, ((packed >>> 14) & 0x3fff) + 1);
  }
  if (kind !== "VP8X") return null;
  const three = (at: number) => view.getUint16(at, true) + (view.getUint8(at + 2) << 16) + 1;
  return sized("WebP", three(24), three(27));
}

/** A JPEG is a chain of segments; the size stands in the one that starts the frame. */
function jpeg(view: DataView): Size | null {
  let at = 2;
  while (at + 9 < view.byteLength) {
    if (view.getUint8(at) !== 0xff) return null;
    const marker = view.getUint8(at + 1);
    if (marker === 0xff) {
      at += 1;
    } else if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) {
      return sized("JPEG", view.getUint16(at + 7), view.getUint16(at + 5));
    } else if (marker >= 0xd0 && marker <= 0xd8) {
      at += 2;
    } else {
      at += 2 + view.getUint16(at + 2);
    }
  }
  return null;
}
