/**
 * Codes on a way from a to b, t from 0 to 1: straight, or along the sphere about the origin, as `isthmus interpolate`.
 *
 *     straight   (1 - t) a + t b
 *     spherical  r(t) (sin((1 - t) w) a / |a| + sin(t w) b / |b|) / sin w,   r(t) = (1 - t) |a| + t |b|
 *
 * w is the angle between a and b (Shoemake 1985; White 2016).
 */
export type Way = "straight" | "spherical";

const FLAT = 1e-6; // radians from 0, where the way is straight, and from pi, where there are many circles

export function between(a: ArrayLike<number>, b: ArrayLike<number>, t: number, way: Way): Float32Array {
  const [one, two] = way === "spherical" ? circle(a, b, t) : [1 - t, t];
  return Float32Array.from({ length: a.length }, (_, i) => one * a[i] + two * b[i]);
}

/** How much of a and of b there is at t on the circle; those of the straight way where there is no one circle. */
function circle(a: ArrayLike<number>, b: ArrayLike<number>, t: number): [number, number] {
  const [long, other] = [length(a), length(b)];
  if (long === 0 || other === 0) return [1 - t, t];
  let [apart, together] = [0, 0];
  for (let i = 0; i < a.length; i++) {
    apart += (a[i] / long - b[i] / other) ** 2;
    together += (a[i] / long + b[i] / other) ** 2;
  }
  const angle = 2 * Math.atan2(Math.sqrt(apart), Math.sqrt(together));
  if (angle < FLAT || angle > Math.PI - FLAT) return [1 - t, t];
  const radius = (1 - t) * long + t * other;
  const scale = radius / Math.sin(angle);
  return [(scale * Math.sin((1 - t) * angle)) / long, (scale * Math.sin(t * angle)) / other];
}

function length(vector: ArrayLike<number>): number {
  let square = 0;
  for (let i = 0; i < vector.length; i++) square += vector[i] * vector[i];
  return Math.sqrt(square);
}
