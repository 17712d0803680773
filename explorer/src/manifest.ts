/** What was exported: data/manifest.json, checked before anything is believed. C channels, H W size, D numbers a code. */
import { readJson, type Stamp } from "./files";
import { Told } from "./told";

export const FORMAT = 1;
export type PartName = "encoder" | "decoder" | "classifier" | "denoiser";

export interface Part extends Stamp {
  file: string;
  /** Of a classifier: the classes of its probabilities, where they are not those of the labels. */
  classes: string[] | null;
}

export interface Manifest {
  title: string;
  network: string;
  kind: string;
  shape: [number, number, number];
  latentDim: number | null;
  sigma: number | null;
  classes: string[];
  count: number;
  labelled: boolean;
  parts: Record<PartName, Part | null>;
  files: Record<string, Stamp>;
  sprites: { columns: number; perSheet: number; sheets: number };
  ranges: [number, number][];
  layout: { name: string; count: number } | null;
  data: string;
  figures: Record<string, number>;
  missing: string[];
}

export async function readManifest(): Promise<Manifest> {
  return parseManifest(await readJson("data/manifest.json"));
}

/** A file of data/ as the manifest lists it, with or without the folder's name before it. */
export function stampOf(manifest: Manifest, name: string): Stamp | undefined {
  return manifest.files[name] ?? manifest.files[name.replace(/^data\//, "")];
}

export function parseManifest(value: unknown): Manifest {
  const found = record(value, "the whole");
  if (found.format !== FORMAT) {
    throw new Told(
      `This folder was exported in format ${String(found.format)} and the page reads ${FORMAT}: export it again with ` +
        `the Isthmus that made this page.`,
    );
  }
  const shape = numbers(found.image_shape, "image_shape", 3);
  if (shape.some((side) => !Number.isInteger(side) || side < 1)) throw wrong("image_shape");
  const sprites = record(found.sprites, "sprites");
  const parts = record(found.parts, "parts");
  const layout = found.layout == null ? null : record(found.layout, "layout");
  return {
    title: text(found.title, "title"),
    network: text(found.network, "network"),
    kind: text(found.kind, "kind"),
    shape: [shape[0], shape[1], shape[2]],
    latentDim: found.latent_dim == null ? null : whole(found.latent_dim, "latent_dim"),
    sigma: found.sigma == null ? null : number(found.sigma, "sigma"),
    classes: list(found.classes, "classes").map((name) => String(name)),
    count: whole(found.count, "count"),
    labelled: found.labelled === true,
    parts: {
      encoder: part(parts.encoder, "encoder"),
      decoder: part(parts.decoder, "decoder"),
      classifier: part(parts.classifier, "classifier"),
      denoiser: part(parts.denoiser, "denoiser"),
    },
    files: Object.fromEntries(
      Object.entries(record(found.files ?? {}, "files")).map(([name, entry]) => [name, stamp(entry, `files.${name}`)]),
    ),
    sprites: {
      columns: whole(sprites.columns, "sprites.columns"),
      perSheet: whole(sprites.per_sheet, "sprites.per_sheet"),
      sheets: whole(sprites.sheets, "sprites.sheets"),
    },
    ranges: list(found.ranges ?? [], "ranges").map((pair) => {
      const [low, high] = numbers(pair, "ranges", 2);
      return [low, high];
    }),
    layout:
      layout === null ? null : { name: text(layout.name, "layout.name"), count: whole(layout.count, "layout.count") },
    data: text(found.data ?? "", "data"),
    figures: Object.fromEntries(
      Object.entries(record(found.figures ?? {}, "figures")).filter(
        (entry): entry is [string, number] => typeof entry[1] === "number",
      ),
    ),
    missing: list(found.missing ?? [], "missing").map((line) => String(line)),
  };
}

function wrong(name: string): Told {
  return new Told(`data/manifest.json does not say what it should at ${name}: export the folder again.`);
}

function record(value: unknown, name: string): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw wrong(name);
  return value as Record<string, unknown>;
}

function list(value: unknown, name: string): unknown[] {
  if (!Array.isArray(value)) throw wrong(name);
  return value as unknown[];
}

function text(value: unknown, name: string): string {
  if (typeof value !== "string") throw wrong(name);
  return value;
}

function number(value: unknown, name: string): number {
  if (typeof value !== "number" || !Number.isFinite(value)) throw wrong(name);
  return value;
}

function whole(value: unknown, name: string): number {
  const found = number(value, name);
  if (!Number.isInteger(found) || found < 0) throw wrong(name);
  return found;
}

function numbers(value: unknown, name: string, count: number): number[] {
  const found = list(value, name).map((entry) => number(entry, name));
  if (found.length !== count) throw wrong(name);
  return found;
}

function stamp(value: unknown, name: string): Stamp {
  const found = record(value, name);
  return { bytes: whole(found.bytes, `${name}.bytes`), sha256: text(found.sha256 ?? "", `${name}.sha256`) };
}

function part(value: unknown, name: string): Part | null {
  if (value == null) return null;
  const file = text(record(value, `parts.${name}`).file, `parts.${name}.file`);
  const { classes } = record(value, name);
  return {
    ...stamp(value, `parts.${name}`),
    file: file.startsWith("data/") ? file : `data/${file}`,
    classes: classes == null ? null : list(classes, `parts.${name}.classes`).map((each) => String(each)),
  };
}
