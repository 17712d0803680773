// Points in space on a canvas: turned by dragging or arrow keys, enlarged by the wheel or two fingers. No library.
for (const figure of document.querySelectorAll("figure.scene")) {
  const { points, labels, classes, colours } = JSON.parse(figure.querySelector("script").textContent);
  const canvas = figure.querySelector("canvas"), pen = canvas.getContext("2d");
  const view = { turn: -0.9, tilt: 0.45, zoom: 1, alone: null };
  const touching = new Map();
  let asked = false;

  // The corner of the box that is far from the eye, and the axes from there.
  const project = ([x, y, z], scale) => {
    const c = Math.cos(view.turn), s = Math.sin(view.turn), ct = Math.cos(view.tilt), st = Math.sin(view.tilt);
    const right = x * c - y * s, away = x * s + y * c;
    const up = z * ct - away * st, depth = away * ct + z * st;
    const perspective = 4.2 / (4.2 + depth);
    const half = canvas.width / 2;
    return [half + right * perspective * scale, half - up * perspective * scale, depth, perspective];
  };

  const draw = () => {
    asked = false;
    const side = Math.round(canvas.clientWidth * devicePixelRatio);
    if (canvas.width !== side) canvas.width = canvas.height = side;
    const style = getComputedStyle(canvas), ink = style.getPropertyValue("--ink"), rule = style.getPropertyValue("--rule");
    const scale = side * 0.235 * view.zoom;
    pen.clearRect(0, 0, side, side);
    pen.lineWidth = devicePixelRatio;
    pen.strokeStyle = rule;
    for (const a of [-1, 1]) for (const b of [-1, 1]) {
      for (const [p, q] of [[[-1, a, b], [1, a, b]], [[a, -1, b], [a, 1, b]], [[a, b, -1], [a, b, 1]]]) {
        const from = project(p, scale), to = project(q, scale);
        pen.beginPath(); pen.moveTo(from[0], from[1]); pen.lineTo(to[0], to[1]); pen.stroke();
      }
    }
    const order = points.map((p, i) => [...project(p, scale), i]).sort((a, b) => b[2] - a[2]);
    for (const [x, y, depth, perspective, i] of order) {
      const off = view.alone !== null && labels[i] !== view.alone;
      pen.globalAlpha = off ? 0.08 : 0.95 - 0.18 * (depth + 1.7);
      pen.fillStyle = colours[labels[i]];
      pen.beginPath(); pen.arc(x, y, 3.4 * devicePixelRatio * perspective, 0, 7); pen.fill();
    }
    pen.globalAlpha = 1;
    pen.fillStyle = ink;
    pen.font = `${12 * devicePixelRatio}px system-ui, sans-serif`;
    pen.textAlign = "center"; pen.textBaseline = "middle";
    for (const [name, at] of [["first", [0, -1.22, -1.12]], ["second", [1.22, 0, -1.12]], ["third", [-1.2, -1.2, 0]]]) {
      const [x, y] = project(at, scale);
      pen.fillText(name, x, y);
    }
  };
  const ask = () => { if (!asked) { asked = true; requestAnimationFrame(draw); } };
  const turn = (dx, dy) => {
    view.turn += dx;
    view.tilt = Math.max(-1.5, Math.min(1.5, view.tilt + dy));
    ask();
  };
  const enlarge = (factor) => { view.zoom = Math.max(0.5, Math.min(6, view.zoom * factor)); ask(); };

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    touching.set(event.pointerId, [event.clientX, event.clientY]);
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = touching.get(event.pointerId);
    if (!before) return;
    const now = [event.clientX, event.clientY];
    if (touching.size === 1) turn((now[0] - before[0]) * 0.01, (now[1] - before[1]) * 0.01);
    else {
      const [other] = [...touching].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
      const span = (place) => Math.hypot(place[0] - other[0], place[1] - other[1]) || 1;
      enlarge(span(now) / span(before));
    }
    touching.set(event.pointerId, now);
  });
  for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, (event) => touching.delete(event.pointerId));
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return; // the page scrolls
    event.preventDefault();
    enlarge(Math.exp(-event.deltaY * 0.01));
  }, { passive: false });
  const keys = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] };
  canvas.addEventListener("keydown", (event) => {
    if (keys[event.key]) { event.preventDefault(); turn(...keys[event.key]); }
    if (event.key === "+") enlarge(1.1);
    if (event.key === "-") enlarge(1 / 1.1);
  });

  const row = figure.querySelector(".classes");
  classes.forEach((name, k) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name;
    button.style.setProperty("--dot", colours[k]);
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => {
      view.alone = view.alone === k ? null : k;
      row.querySelectorAll("button").forEach((other, j) => other.setAttribute("aria-pressed", String(view.alone === j)));
      ask();
    });
    row.append(button);
  });
  new ResizeObserver(ask).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", ask);
}
