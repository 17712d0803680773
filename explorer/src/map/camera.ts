/**
 * From places to the screen and back, without perspective: q = R (p - centre), x = w / 2 + s q_x, y = h / 2 - s q_y.
 *
 * R turns by `yaw` about the upright axis and then by `pitch` about the screen's. The scale is kept for a window of 2 by
 * 2, so that a shared link shows the same in a window of another size.
 */
export interface Camera {
  centre: [number, number, number];
  /** Half the window's shorter side is 1 / scale long. */
  scale: number;
  yaw: number;
  pitch: number;
}

export interface Window {
  width: number;
  height: number;
}

export type Point3 = [number, number, number];

/** Rows of R. */
export function rotation(camera: Camera): [Point3, Point3, Point3] {
  const [cy, sy, cp, sp] = [Math.cos(camera.yaw), Math.sin(camera.yaw), Math.cos(camera.pitch), Math.sin(camera.pitch)];
  return [
    [cy, 0, sy],
    [sp * sy, cp, -sp * cy],
    [-cp * sy, sp, cp * cy],
  ];
}

/** Pixels of one unit of the map. */
export function pixels(camera: Camera, window: Window): number {
  return (camera.scale * Math.min(window.width, window.height)) / 2;
}

/** (x, y) in pixels and the depth, larger is nearer. */
export function toScreen(camera: Camera, window: Window, place: readonly number[]): Point3 {
  const unit = pixels(camera, window);
  const apart = [0, 1, 2].map((k) => place[k] - camera.centre[k]);
  const [x, y, z] = rotation(camera).map((row) => row[0] * apart[0] + row[1] * apart[1] + row[2] * apart[2]);
  return [window.width / 2 + unit * x, window.height / 2 - unit * y, z];
}

/** The place at (x, y) in pixels, as deep as `like`. */
export function toPlace(camera: Camera, window: Window, x: number, y: number, like: readonly number[]): Point3 {
  const from = toScreen(camera, window, like);
  const unit = pixels(camera, window);
  const [right, up] = [(x - from[0]) / unit, (from[1] - y) / unit];
  const rows = rotation(camera);
  return [0, 1, 2].map((k) => like[k] + right * rows[0][k] + up * rows[1][k]) as Point3;
}

/** Moved by (dx, dy) pixels of the screen, as if the points were dragged. */
export function panned(camera: Camera, window: Window, dx: number, dy: number): Camera {
  const unit = pixels(camera, window);
  const rows = rotation(camera);
  const centre = camera.centre.map((value, k) => value - (dx / unit) * rows[0][k] + (dy / unit) * rows[1][k]) as Point3;
  return { ...camera, centre };
}

/** Closer by `factor`; what is at (x, y) stays there. */
export function zoomed(camera: Camera, window: Window, factor: number, x: number, y: number): Camera {
  const scale = Math.min(1e6, Math.max(1e-6, camera.scale * factor));
  const held = toPlace(camera, window, x, y, camera.centre);
  const closer = { ...camera, scale };
  const [nowX, nowY] = toScreen(closer, window, held);
  return panned(closer, window, x - nowX, y - nowY);
}

/** Turned by a drag of (dx, dy) pixels: half a turn over the window's shorter side. */
export function turned(camera: Camera, window: Window, dx: number, dy: number): Camera {
  const unit = Math.PI / Math.min(window.width, window.height);
  const pitch = Math.min(Math.PI / 2, Math.max(-Math.PI / 2, camera.pitch + dy * unit));
  return { ...camera, yaw: camera.yaw + dx * unit, pitch };
}

/** One that shows nearly all places (N, 3): the outermost hundredth on each side may fall outside. */
export function fitted(places: Float32Array, dimensions: 2 | 3, window: Window): Camera {
  const count = places.length / 3;
  const step = Math.max(1, Math.floor(count / 20000));
  const centre: Point3 = [0, 0, 0];
  const half: Point3 = [0, 0, 0];
  for (let k = 0; k < 3; k++) {
    const values: number[] = [];
    for (let i = 0; i < count; i += step) values.push(places[3 * i + k]);
    values.sort((a, b) => a - b);
    const low = values[Math.floor(0.005 * (values.length - 1))] ?? 0;
    const high = values[Math.ceil(0.995 * (values.length - 1))] ?? 0;
    centre[k] = (low + high) / 2;
    half[k] = (high - low) / 2;
  }
  const shorter = Math.min(window.width, window.height) || 1;
  const reach =
    dimensions === 2
      ? Math.max((half[0] * shorter) / (window.width || 1), (half[1] * shorter) / (window.height || 1))
      : Math.hypot(...half) * 0.82;
  const scale = 0.88 / Math.max(reach, 1e-9);
  return { centre, scale, yaw: dimensions === 3 ? -0.6 : 0, pitch: dimensions === 3 ? 0.35 : 0 };
}
