// Small charts as SVG, without a library.

const NS = "http://www.w3.org/2000/svg";

export function make(name, attributes = {}, ...children) {
  const element = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

export function show(holder, width, height, label, parts) {
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  svg.append(...parts);
  holder.replaceChildren(svg);
}

// Width of a chart: what there is, so that text keeps its size on a phone.
export function room(holder, most = 1100) {
  return Math.max(280, Math.min(most, holder.clientWidth || 600));
}

export function ticks(low, high, about) {
  const raw = (high - low) / about || 1;
  const unit = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((k) => k * unit).find((s) => s >= raw);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9) * step; at <= high + step * 1e-9; at += step) found.push(at);
  return found.map((value) => Number(value.toPrecision(12)));
}

function logTicks(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1)
    for (const k of [1, 2, 5]) {
      const value = k * 10 ** power;
      if (value >= low && value <= high) found.push(value);
    }
  return found;
}

export function short(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  const [unit, name] = size >= 1e9 ? [1e9, " G"] : size >= 1e6 ? [1e6, " M"] : size >= 1e4 ? [1e3, " k"] : [1, ""];
  return `${Number((value / unit).toPrecision(3))}${name}`;
}

// Digits that tell apart what the spread lets one tell apart.
export function score(value, digits = 4) {
  return value === null || value === undefined ? "–" : value.toFixed(Math.abs(value) >= 10 ? 2 : digits);
}

function scale(low, high, from, to, log = false) {
  const of = log ? Math.log : (x) => x;
  const width = of(high) - of(low) || 1;
  return (value) => from + ((of(value) - of(low)) / width) * (to - from);
}

function axis(values, x, height, bottom, text = String) {
  return values.flatMap((value) => [
    make("line", { class: "grid", x1: x(value), x2: x(value), y1: 8, y2: height - bottom }),
    make("text", { class: "tick", x: x(value), y: height - bottom + 15, "text-anchor": "middle" }, text(value)),
  ]);
}

function sideAxis(values, y, left, width, text = String) {
  return values.flatMap((value) => [
    make("line", { class: "grid", x1: left, x2: width - 8, y1: y(value), y2: y(value) }),
    make("text", { class: "tick", x: left - 6, y: y(value) + 4, "text-anchor": "end" }, text(value)),
  ]);
}

export function histogram(holder, picture, row) {
  const width = room(holder, 560), height = 170, bottom = 24;
  const { counts, edges } = picture;
  const low = Math.min(edges[0], row ? row.mean : edges[0]);
  const high = Math.max(edges.at(-1), row ? row.mean : edges[0]);
  const x = scale(low, high, 12, width - 12);
  const y = scale(0, Math.max(...counts), height - bottom, 22);
  const parts = axis(ticks(low, high, 5), x, height, bottom);
  counts.forEach((count, i) =>
    parts.push(make("rect", { class: "bar", x: x(edges[i]) + 0.5, width: Math.max(1, x(edges[i + 1]) - x(edges[i]) - 1), y: y(count), height: height - bottom - y(count) })));
  if (row) {
    const from = Math.max(x(row.mean - row.std), 4), to = Math.min(x(row.mean + row.std), width - 4);
    parts.push(make("rect", { class: "band", x: from, width: Math.max(1, to - from), y: 18, height: height - bottom - 18 }));
    parts.push(make("line", { class: "here", x1: x(row.mean), x2: x(row.mean), y1: 18, y2: height - bottom }));
    const end = x(row.mean) > width - 60 ? "end" : x(row.mean) < 60 ? "start" : "middle";
    parts.push(make("text", { class: "label", x: x(row.mean), y: 13, "text-anchor": end }, "this one"));
  }
  show(holder, width, height, "Distribution of predicted scores over the space, with this architecture marked", parts);
}

export function scatter(holder, picture, row) {
  const width = room(holder), height = Math.min(380, Math.max(260, width * 0.42)), left = 52, bottom = 40;
  const { points, front } = picture;
  const flops = [...points.flops, ...front.flops, ...(row ? [row.flops] : [])];
  const floor = Math.min(picture.edges[0], row ? row.mean : Infinity);
  const means = [...front.mean, floor, ...(row ? [row.mean] : [])];
  const x = scale(Math.min(...flops), Math.max(...flops), left + 6, width - 16, true);
  const y = scale(floor, Math.max(...means), height - bottom - 4, 20);
  const parts = [
    ...axis(logTicks(Math.min(...flops), Math.max(...flops)).filter((v, i, all) => width > 500 || all.length < 7 || i % 2 === 0), x, height, bottom, short),
    ...sideAxis(ticks(floor, Math.max(...means), 5), y, left, width),
    make("text", { class: "tick", x: width / 2, y: height - 6, "text-anchor": "middle" }, "FLOPs per image (logarithmic)"),
  ];
  points.mean.forEach((mean, i) => {
    if (mean >= floor) parts.push(make("circle", { class: "point", cx: x(points.flops[i]), cy: y(mean), r: 2.2 }));
  });
  let path = "";
  front.mean.forEach((mean, i) => {
    if (mean < floor) return;
    path += path ? `H${x(front.flops[i])}V${y(mean)}` : `M${x(front.flops[i])} ${y(mean)}`;
    parts.push(make("circle", { class: "frontpoint", cx: x(front.flops[i]), cy: y(mean), r: 3 }));
  });
  if (path) parts.push(make("path", { class: "front", d: path }));
  parts.push(make("text", { class: "fronttext", x: left + 10, y: 14 }, "Pareto front"));
  if (row) {
    const high = y(row.mean + row.std), low = y(row.mean - row.std);
    parts.push(make("line", { class: "here", x1: x(row.flops), x2: x(row.flops), y1: Math.max(high, 4), y2: Math.min(low, height - bottom) }));
    parts.push(make("circle", { class: "you", cx: x(row.flops), cy: y(row.mean), r: 6 }));
    const end = x(row.flops) > width - 90 ? "end" : "start";
    parts.push(make("text", { class: "label", x: x(row.flops) + (end === "end" ? -10 : 10), y: y(row.mean) + 4, "text-anchor": end }, "this one"));
  }
  show(holder, width, height, "Predicted score against FLOPs for a sample of the space, with the Pareto front and this architecture", parts);
}

export function progress(holder, runs) {
  const width = room(holder), height = Math.min(320, Math.max(220, width * 0.35)), left = 52, bottom = 36;
  const drawn = runs.filter((run) => run.best.length);
  if (!drawn.length) return holder.replaceChildren("No run has a result yet.");
  const most = Math.max(...drawn.map((run) => Math.max(run.budget, run.best.length)));
  const ends = drawn.map((run) => run.best.at(-1)), high = Math.max(...ends);
  const low = Math.min(...drawn.map((run) => run.best[Math.min(2, run.best.length - 1)]), high - 1e-6);
  const x = scale(1, Math.max(most, 2), left + 4, width - 14), y = scale(low, high, height - bottom - 4, 16);
  const parts = [
    ...axis(ticks(1, most, 6).filter((v) => v >= 1 && Number.isInteger(v)), x, height, bottom),
    ...sideAxis(ticks(low, high, 4), y, left, width),
    make("text", { class: "tick", x: width / 2, y: height - 4, "text-anchor": "middle" }, "evaluations"),
  ];
  drawn.forEach((run) => {
    const d = run.best.map((value, k) => `${k ? "H" : "M"}${x(k + 1)}${k ? "V" : " "}${Math.min(y(value), height - bottom)}`).join("");
    parts.push(make("path", { class: `line line${run.colour % 6}`, d }, make("title", {}, run.run)));
  });
  show(holder, width, height, "Best score of each run after each evaluation", parts);
}
