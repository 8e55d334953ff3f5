// The drawing of a cell: layers by the longest path from the input, from top to bottom.

import { make, show } from "./charts.js";

const STEP = 62, HIGH = 30, WIDE = 104, GAP = 16;

function layersOf(count, edges) {
  const layer = Array(count).fill(0);
  for (const [from, to] of edges) layer[to] = Math.max(layer[to], layer[from] + 1); // by rising source
  layer[count - 1] = Math.max(...layer);
  return layer;
}

// Every vertex, and every layer that an edge passes through, gets a column of its layer.
function columnsOf(layer, edges) {
  const rows = Array.from({ length: Math.max(...layer) + 1 }, () => []);
  layer.forEach((at, node) => rows[at].push(`n${node}`));
  edges.forEach(([from, to], e) => {
    for (let at = layer[from] + 1; at < layer[to]; at += 1) rows[at].push(`e${e}.${at}`);
  });
  return rows;
}

export function pretty(name) {
  return name.replace(/-bn-relu$/, "").replace(/^nor_/, "").replaceAll("_", " ").replace(/(\D)(\d)x(\d)/, "$1 $2×$3").replace(/ +/g, " ");
}

// A node without edges carries nothing, e.g. an edge of the cell whose operation is none.
function connected({ nodes, edges }) {
  const used = nodes.map((_, i) => i === 0 || i === nodes.length - 1 || edges.some((edge) => edge.includes(i)));
  const at = nodes.map((_, i) => used.slice(0, i).filter(Boolean).length);
  return { nodes: nodes.filter((_, i) => used[i]), edges: edges.map(([from, to]) => [at[from], at[to]]) };
}

export function draw(holder, whole) {
  const cell = connected(whole);
  const edges = [...cell.edges].sort((a, b) => a[0] - b[0]);
  const layer = layersOf(cell.nodes.length, edges), rows = columnsOf(layer, edges);
  const slot = (key) => (key[0] === "n" ? WIDE : 22);
  const rowWidth = (row) => row.reduce((sum, key) => sum + slot(key) + GAP, -GAP);
  const width = Math.max(260, ...rows.map((row) => rowWidth(row) + 24)), height = rows.length * STEP + 4;
  const place = new Map();
  rows.forEach((row, at) => {
    let x = (width - rowWidth(row)) / 2;
    for (const key of row) {
      place.set(key, [x + slot(key) / 2, at * STEP + HIGH / 2 + 8]);
      x += slot(key) + GAP;
    }
  });
  const parts = [make("defs", {}, make("marker", { id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto-start-reverse" }, make("path", { class: "arrow", d: "M0 0 8 4 0 8Z" })))];
  edges.forEach(([from, to], e) => {
    const stops = [place.get(`n${from}`)];
    for (let at = layer[from] + 1; at < layer[to]; at += 1) stops.push(place.get(`e${e}.${at}`));
    stops.push(place.get(`n${to}`));
    let d = `M${stops[0][0]} ${stops[0][1] + HIGH / 2}`;
    for (let k = 1; k < stops.length; k += 1) {
      const last = k === stops.length - 1;
      const [x0, y0] = [stops[k - 1][0], stops[k - 1][1] + (k === 1 ? HIGH / 2 : 8)];
      const [x1, y1] = [stops[k][0], stops[k][1] - (last ? HIGH / 2 : 8)];
      const middle = (y0 + y1) / 2;
      d += `C${x0} ${middle} ${x1} ${middle} ${x1} ${y1}`;
      if (!last) d += `V${y1 + 16}`;
    }
    parts.push(make("path", { class: "edge", d, "marker-end": "url(#arrow)" }));
  });
  cell.nodes.forEach((node, i) => {
    const [x, y] = place.get(`n${i}`);
    parts.push(make("rect", { class: `node ${node.kind}`, x: x - WIDE / 2, y: y - HIGH / 2, width: WIDE, height: HIGH, rx: 7 }));
    parts.push(make("text", { class: "name", x, y: y + 1 }, pretty(node.name)));
  });
  const words = cell.nodes.map((node) => pretty(node.name)).join(", ");
  show(holder, width, height, `The cell: ${words}; ${edges.length} edges`, parts);
  holder.firstChild.style.maxWidth = `${Math.max(width, 260) * 1.15}px`;
}
