/** Nearest codes by Euclidean distance, by asking every one: 200,000 of 64 numbers take some hundredths of a second. */

export interface Neighbour {
  index: number;
  distance: number;
}

/** The `most` codes of (N, D) nearest to one, the nearest first; `except` is left out. */
export function nearest(codes: Float32Array, code: ArrayLike<number>, most: number, except = -1): Neighbour[] {
  const dim = code.length;
  const count = dim === 0 ? 0 : codes.length / dim;
  const found: Neighbour[] = [];
  let worst = Infinity;
  for (let i = 0, at = 0; i < count; i++, at += dim) {
    let square = 0;
    for (let j = 0; j < dim && square < worst; j++) {
      const apart = codes[at + j] - code[j];
      square += apart * apart;
    }
    if (square >= worst || i === except) continue;
    let place = found.length;
    while (place > 0 && found[place - 1].distance > square) place--;
    found.splice(place, 0, { index: i, distance: square });
    if (found.length > most) found.pop();
    if (found.length === most) worst = found[most - 1].distance;
  }
  return found.map(({ index, distance }) => ({ index, distance: Math.sqrt(distance) }));
}

/** Share of each class (K) among points, unlabelled ones left out. */
export function shares(labels: ArrayLike<number>, points: readonly number[], classes: number): Float32Array {
  const found = new Float32Array(classes);
  const labelled = points.filter((i) => labels[i] >= 0 && labels[i] < classes);
  for (const i of labelled) found[labels[i]] += 1 / labelled.length;
  return found;
}
