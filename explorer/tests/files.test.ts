/** What is read from outside: manifests, pictures' headers, base64. Each refusal has its words. */
import { describe, expect, it } from "vitest";
import { fromBytes, sizeOf } from "../src/dropped";
import { fromBase64 } from "../src/files";
import { parseManifest, stampOf } from "../src/manifest";
import { sentence, Told } from "../src/told";

const good = {
  format: 1,
  title: "vae2",
  network: "vae",
  kind: "vae",
  image_shape: [1, 28, 28],
  latent_dim: 2,
  sigma: 0.1,
  classes: ["a"],
  count: 3,
  labelled: true,
  parts: { encoder: null, decoder: { file: "decoder.onnx", bytes: 5, sha256: "00" }, classifier: null },
  files: { "data/codes.bin": { bytes: 24, sha256: "" } },
  sprites: { columns: 64, per_sheet: 4096, sheets: 1 },
  ranges: [
    [-1, 1],
    [-2, 2],
  ],
  layout: null,
  data: "mnist",
  figures: { mse: 0.1, none: null },
  missing: [],
};

describe("manifests", () => {
  it("are read, and files found with or without their folder", () => {
    const found = parseManifest(good);
    expect(found.parts.decoder).toEqual({ file: "data/decoder.onnx", bytes: 5, sha256: "00", classes: null });
    expect(found.figures).toEqual({ mse: 0.1 });
    expect(stampOf(found, "data/codes.bin")?.bytes).toBe(24);
    expect(
      stampOf(parseManifest({ ...good, files: { "codes.bin": { bytes: 7, sha256: "" } } }), "data/codes.bin")?.bytes,
    ).toBe(7);
  });
  it("of another format, or damaged, are refused by name", () => {
    expect(() => parseManifest({ ...good, format: 2 })).toThrow("format 2 and the page reads 1");
    expect(() => parseManifest({ ...good, image_shape: [1, 28] })).toThrow("at image_shape");
    expect(() => parseManifest({ ...good, count: -1 })).toThrow("at count");
    expect(() => parseManifest([])).toThrow("at the whole");
  });
});

describe("headers of pictures", () => {
  const bytes = (...parts: (string | number[])[]) =>
    Uint8Array.from(parts.flatMap((part) => (typeof part === "string" ? [...part].map((c) => c.charCodeAt(0)) : part)));
  const pad = (count: number) => new Array<number>(count).fill(0);
  it("say the size of PNG, GIF, BMP, JPEG and WebP", () => {
    expect(
      sizeOf(bytes("\x89PNG\r\n\x1a\n", [0, 0, 0, 13], "IHDR", [0, 0, 0x27, 0x10, 0, 0, 0x27, 0x11], pad(9))),
    ).toEqual({ kind: "PNG", width: 10000, height: 10001 });
    expect(sizeOf(bytes("GIF89a", [44, 1, 200, 0], pad(9)))).toEqual({ kind: "GIF", width: 300, height: 200 });
    expect(sizeOf(bytes("BM", pad(16), [10, 0, 0, 0], [0xf6, 0xff, 0xff, 0xff], pad(9)))).toEqual({
      kind: "BMP",
      width: 10,
      height: 10,
    });
    const jpeg = bytes([0xff, 0xd8, 0xff, 0xe0, 0, 4, 0, 0, 0xff, 0xc2, 0, 17, 8, 1, 0, 2, 0], pad(12));
    expect(sizeOf(jpeg)).toEqual({ kind: "JPEG", width: 512, height: 256 });
    expect(sizeOf(bytes("RIFF", pad(4), "WEBPVP8X", pad(8), [99, 0, 0, 49, 0, 0], pad(4)))).toEqual({
      kind: "WebP",
      width: 100,
      height: 50,
    });
    expect(sizeOf(bytes("RIFF", pad(4), "WEBPVP8L", pad(4), [0x2f, 99, 0x40, 12, 0], pad(9)))).toEqual({
      kind: "WebP",
      width: 100,
      height: 50,
    });
  });
  it("of anything else say nothing, however short", () => {
    for (const text of ["", "%PDF-1.7", "\xff\xd8", "\x89PNG", "BM", "GIF89a", "\xff\xd8\xff\xe0\x00\x02"])
      expect(sizeOf(bytes(text))).toBeNull();
  });
  it("pixels become luma for one channel and stay colours for three", () => {
    const red = [255, 0, 0, 255];
    expect(fromBytes(red, [1, 1, 1])[0]).toBeCloseTo(0.299, 6);
    expect([...fromBytes(red, [3, 1, 1])]).toEqual([1, 0, 0]);
  });
});

describe("blocks of the single file", () => {
  it("are read, and refused by name", () => {
    expect([...new Uint8Array(fromBase64(" AQL/ \n", "x"))]).toEqual([1, 2, 255]);
    expect(() => fromBase64("*", "data/codes.bin")).toThrow("data/codes.bin is damaged within this file");
  });
});

describe("sentences", () => {
  it("are ours where we wrote them, and say whose mistake it is where not", () => {
    expect(sentence(new Told("So it is."))).toBe("So it is.");
    expect(sentence(new TypeError("x is no function"))).toContain("Please report this");
  });
});
