/** Small dense matrices in float64, row by row in one array: (n, n) has entry (i, j) at i n + j. */

/** L, lower triangular, with L L' = A; null where A is not positive definite. */
export function cholesky(matrix: Float64Array, size: number): Float64Array | null {
  const root = new Float64Array(size * size);
  for (let i = 0; i < size; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = matrix[i * size + j];
      for (let k = 0; k < j; k++) sum -= root[i * size + k] * root[j * size + k];
      if (i === j) {
        if (!(sum > 0)) return null;
        root[i * size + i] = Math.sqrt(sum);
      } else {
        root[i * size + j] = sum / root[j * size + j];
      }
    }
  }
  return root;
}

/** x with L x = b. */
export function solveLower(root: Float64Array, vector: Float64Array, size: number): Float64Array {
  const found = new Float64Array(size);
  for (let i = 0; i < size; i++) {
    let sum = vector[i];
    for (let k = 0; k < i; k++) sum -= root[i * size + k] * found[k];
    found[i] = sum / root[i * size + i];
  }
  return found;
}

/** x with L' x = b. */
export function solveUpper(root: Float64Array, vector: Float64Array, size: number): Float64Array {
  const found = new Float64Array(size);
  for (let i = size - 1; i >= 0; i--) {
    let sum = vector[i];
    for (let k = i + 1; k < size; k++) sum -= root[k * size + i] * found[k];
    found[i] = sum / root[i * size + i];
  }
  return found;
}

/** (L L')^-1. */
export function inverseOf(root: Float64Array, size: number): Float64Array {
  const found = new Float64Array(size * size);
  const unit = new Float64Array(size);
  for (let j = 0; j < size; j++) {
    unit.fill(0);
    unit[j] = 1;
    const column = solveUpper(root, solveLower(root, unit, size), size);
    for (let i = 0; i < size; i++) found[i * size + j] = column[i];
  }
  return found;
}

/** log(sum(exp(values))), without overflow. */
export function logSumExp(values: Float64Array): number {
  let most = -Infinity;
  for (const value of values) most = Math.max(most, value);
  if (most === -Infinity) return most;
  let sum = 0;
  for (const value of values) sum += Math.exp(value - most);
  return most + Math.log(sum);
}
