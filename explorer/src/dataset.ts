/** What lies in data/ besides the networks: codes, labels, layout, principal axes, densities, pictures. */
import { parseDensities, Ranking, standardNormal, type Densities, type Density } from "./density";
import { readJson, readStamped } from "./files";
import { stampOf, type Manifest } from "./manifest";
import { Sprites } from "./sprites";
import { sentence, Told } from "./told";

export interface Principal {
  mean: Float64Array;
  axes: Float64Array[]; // orthonormal, the first has the greatest variance
  explained: number[];
}

export class Dataset {
  /** Code axes, that of greatest variance first. */
  readonly order: number[];
  private ranking: Ranking | null = null;

  constructor(
    readonly manifest: Manifest,
    /** (N, D); empty where the run has no codes. */
    readonly codes: Float32Array,
    readonly labels: Int16Array,
    readonly layout: Float32Array | null,
    readonly principal: Principal | null,
    readonly densities: Densities | null,
    readonly mean: Float64Array,
    readonly variances: Float64Array,
    readonly sprites: Sprites,
  ) {
    this.order = Array.from(variances.keys()).sort((a, b) => variances[b] - variances[a]);
  }

  get dim(): number {
    return this.manifest.latentDim ?? 0;
  }

  get count(): number {
    return this.manifest.count;
  }

  code(i: number): Float32Array {
    return this.codes.slice(i * this.dim, (i + 1) * this.dim);
  }

  /** Name of the class of point i; "" where it has none. */
  label(i: number): string {
    const label = this.labels[i];
    return label < 0 ? "" : this.className(label);
  }

  className(label: number): string {
    return this.manifest.classes[label] ?? `class ${label}`;
  }

  get density(): Density | null {
    return this.densities?.kinds.get(this.densities.default) ?? null;
  }

  /** How codes stand among the real ones; null without a density. Computed on first use. */
  rank(): Ranking | null {
    if (this.density === null) return null;
    // Each code costs K D^2 / 2: fewer are asked where that is much, so that it stays within a tenth of a second.
    const affordable = 5e7 / (this.density.components.length * this.dim ** 2);
    this.ranking ??= new Ranking(this.density, this.codes, Math.round(Math.min(1000, Math.max(100, affordable))));
    return this.ranking;
  }
}

/** Read everything there is; what is missing is said by `tell` and left out, but codes must be there for a map. */
export async function readDataset(manifest: Manifest, tell: (text: string) => void): Promise<Dataset> {
  const { count, latentDim } = manifest;
  const dim = latentDim ?? 0;
  const read = (name: string) => readStamped(name, stampOf(manifest, name));
  const optional = async <T>(wanted: boolean, work: () => Promise<T>): Promise<T | null> => {
    if (!wanted) return null;
    try {
      return await work();
    } catch (error) {
      tell(sentence(error));
      return null;
    }
  };
  const [codes, labels, layout, principal, densities] = await Promise.all([
    dim ? read("data/codes.bin").then((content) => floats(content, count * dim, "data/codes.bin")) : new Float32Array(),
    optional(true, async () => shorts(await read("data/labels.bin"), count)),
    optional(manifest.layout !== null, async () =>
      floats(await read("data/layout.bin"), 2 * (manifest.layout?.count ?? 0), "data/layout.bin"),
    ),
    optional(dim > 0, async () => parsePrincipal(await readJson("data/principal.json"), dim)),
    optional(dim > 0, async () => parseDensities(await readJson("data/density.json"), dim)),
  ]);
  const { mean, variances } = moments(codes, dim);
  if (densities !== null && manifest.kind === "vae" && !densities.kinds.has("normal")) {
    densities.kinds.set("normal", standardNormal(dim));
  }
  const known = labels ?? new Int16Array(count).fill(-1);
  return new Dataset(manifest, codes, known, layout, principal, densities, mean, variances, new Sprites(manifest));
}

function floats(content: ArrayBuffer, count: number, name: string): Float32Array {
  if (content.byteLength !== 4 * count) {
    throw new Told(
      `${name} holds ${content.byteLength / 4} numbers and should hold ${count}: export the folder again.`,
    );
  }
  return new Float32Array(content);
}

function shorts(content: ArrayBuffer, count: number): Int16Array {
  if (content.byteLength !== 2 * count) {
    throw new Told(`data/labels.bin holds ${content.byteLength / 2} labels and should hold ${count}: export again.`);
  }
  return new Int16Array(content);
}

function parsePrincipal(value: unknown, dim: number): Principal {
  const { mean, axes, explained } = value as { mean: number[]; axes: number[][]; explained: number[] };
  const rows = Array.isArray(axes) ? axes.map((axis) => Float64Array.from(axis)) : [];
  if (!Array.isArray(mean) || mean.length !== dim || rows.length === 0 || rows.some((row) => row.length !== dim)) {
    throw new Told(`data/principal.json does not hold axes of ${dim} numbers: export the folder again.`);
  }
  return { mean: Float64Array.from(mean), axes: rows, explained: explained ?? [] };
}

/** Mean and variance of each axis of codes (N, D). */
export function moments(codes: Float32Array, dim: number): { mean: Float64Array; variances: Float64Array } {
  const mean = new Float64Array(dim);
  const variances = new Float64Array(dim);
  const count = dim === 0 ? 0 : codes.length / dim;
  for (let i = 0; i < codes.length; i++) mean[i % dim] += codes[i] / count;
  for (let i = 0; i < codes.length; i++) variances[i % dim] += (codes[i] - mean[i % dim]) ** 2 / count;
  return { mean, variances };
}
