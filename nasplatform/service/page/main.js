// The page: what the user builds goes to the service, what it says is shown.

import { ask, Trouble, useKey } from "./api.js";
import { histogram, progress, scatter, score, short } from "./charts.js";

const $ = (id) => document.getElementById(id);
const state = { name: null, decisions: [], params: {}, row: null, of: null, shown: null, picture: null, turn: 0, runs: [], colours: new Map() };

function complain(error) {
  if (!(error instanceof Trouble)) throw error;
  if (error.status === 401) $("key-form").hidden = false;
  $("trouble").textContent = error.message;
  $("trouble").hidden = false;
}

async function guarded(work) {
  try {
    $("trouble").hidden = true;
    await work();
  } catch (error) {
    complain(error);
  }
}

const path = (what) => `/v1/predictors/${encodeURIComponent(state.name)}${what}`;

async function start() {
  const { predictors } = await ask("/v1/predictors");
  $("key-form").hidden = true;
  if (!predictors.length) throw new Trouble(404, "The store holds no predictor yet.", 0);
  $("predictor").replaceChildren(...predictors.map((p) => new Option(`${p.name} (version ${p.version})`, p.name)));
  const wanted = new URLSearchParams(location.hash.slice(1));
  const known = predictors.some((p) => p.name === wanted.get("predictor"));
  $("predictor").value = known ? wanted.get("predictor") : predictors[0].name;
  await choose(predictors, wanted.get("architecture"));
  $("predictor").onchange = () => guarded(() => choose(predictors, null));
  showRuns();
}

async function choose(predictors, text) {
  const card = predictors.find((p) => p.name === $("predictor").value);
  Object.assign(state, { name: card.name, picture: null, row: null, of: null, shown: null });
  $("about").textContent = `${card.method} on ${card.space.name}, fitted to ${card.n_labels} measured architectures`;
  state.decisions = (await ask(path("/decisions"))).decisions;
  buildForm();
  if (text) await explain({ architecture: text });
  else await random();
  watchSpace(state.name);
}

// The service draws the architecture; the page shows it in its own colours.
function draw(text) {
  const drawn = new DOMParser().parseFromString(text, "image/svg+xml").documentElement;
  $("drawing").replaceChildren(document.importNode(drawn, true));
}

function pretty(name) {
  return name.replace(/-bn-relu$/, "").replace(/^nor_/, "").replaceAll("_", " ").replace(/(\D)(\d)x(\d)/, "$1 $2×$3").replace(/ +/g, " ");
}

// --- the builder

function buildForm() {
  const edge = /^edge_(\d+)_(\d+)$/;
  const edges = state.decisions.filter((d) => edge.test(d.name) && d.choices.length === 2);
  const others = state.decisions.filter((d) => !edges.includes(d));
  const choices = Object.assign(document.createElement("div"), { className: "choices" });
  for (const decision of others) choices.append(choiceOf(decision));
  $("decisions").replaceChildren(choices, ...(edges.length ? [matrixOf(edges, edge)] : []));
}

function choiceOf(decision) {
  const label = document.createElement("label");
  const select = document.createElement("select");
  select.name = decision.name;
  select.append(...decision.choices.map((choice, i) => new Option(pretty(String(choice)), i)));
  select.onchange = () => change(decision.name, decision.choices[select.value]);
  label.append(pretty(decision.name).replace(/^op (\d)/, "Vertex $1").replace(/^edge (\d) (\d)$/, "Edge $1 → $2"), select);
  return label;
}

function matrixOf(edges, pattern) {
  const at = new Map(edges.map((d) => [d.name, d]));
  const last = Math.max(...edges.map((d) => Number(d.name.match(pattern)[2])));
  const word = (v) => (v === 0 ? "in" : v === last ? "out" : String(v));
  const table = Object.assign(document.createElement("table"), { className: "matrix" });
  table.createCaption().textContent = "Edges, from row to column";
  const head = table.createTHead().insertRow();
  head.append(document.createElement("td"));
  for (let to = 1; to <= last; to += 1) head.append(Object.assign(document.createElement("th"), { textContent: word(to), scope: "col" }));
  const body = table.createTBody();
  for (let from = 0; from < last; from += 1) {
    const row = body.insertRow();
    row.append(Object.assign(document.createElement("th"), { textContent: word(from), scope: "row" }));
    for (let to = 1; to <= last; to += 1) {
      const cell = row.insertCell(), decision = at.get(`edge_${from}_${to}`);
      if (!decision) continue;
      const box = Object.assign(document.createElement("input"), { type: "checkbox", name: decision.name });
      box.setAttribute("aria-label", `edge from ${word(from)} to ${word(to)}`);
      box.onchange = () => change(decision.name, decision.choices[box.checked ? 1 : 0]);
      cell.append(box);
    }
  }
  const scroll = Object.assign(document.createElement("div"), { className: "scroll" });
  scroll.append(table);
  return scroll;
}

function fillForm() {
  for (const decision of state.decisions) {
    const field = $("decisions").querySelector(`[name="${CSS.escape(decision.name)}"]`);
    const index = decision.choices.indexOf(state.params[decision.name]);
    if (field.type === "checkbox") field.checked = index === 1;
    else field.value = index;
  }
}

function change(name, value) {
  state.params = { ...state.params, [name]: value };
  guarded(() => explain({ params: state.params }));
}

async function random() {
  const params = {};
  for (const { name, choices } of state.decisions) {
    const sparse = name.startsWith("edge_") && choices.length === 2;
    params[name] = sparse ? choices[Math.random() < 0.4 ? 1 : 0] : choices[Math.floor(Math.random() * choices.length)];
  }
  await explain({ params, keep: false });
}

// Show an architecture; of several requests under way only the last one counts.
async function explain({ architecture, params, keep = true }) {
  const turn = ++state.turn;
  let cell;
  try {
    cell = await ask(path("/explain"), architecture === undefined ? { params } : { architecture });
  } catch (error) {
    if (error.status !== 422) throw error;
    if (turn === state.turn) $("text-error").textContent = error.message.replace(/^architecture: /, "");
    return;
  }
  const said = await ask(path("/predict"), { architectures: [cell.architecture] });
  if (turn !== state.turn) return;
  $("text-error").textContent = "";
  state.params = params && keep ? params : cell.params;
  fillForm();
  const same = Object.entries(state.params).every(([k, v]) => !k.startsWith("edge_") || cell.params[k] === v);
  $("repaired").hidden = same || cell.edges.length === Object.entries(state.params).filter(([k, v]) => k.startsWith("edge_") && v).length;
  if (document.activeElement !== $("text")) $("text").value = cell.architecture;
  draw(cell.drawing);
  state.shown = cell.architecture;
  showRow(said.results[0], said.ranked_of);
  const known = new URLSearchParams({ predictor: state.name, architecture: cell.architecture });
  history.replaceState(null, "", `#${known}`);
}

// The space was ranked further: ask for the rank of what is shown.
async function rankAgain() {
  const turn = state.turn;
  const said = await ask(path("/predict"), { architectures: [state.shown] });
  if (turn === state.turn) showRow(said.results[0], said.ranked_of);
}

// --- what is said of it

function showRow(row, of) {
  Object.assign(state, { row, of });
  $("mean").textContent = score(row.mean);
  $("std").textContent = score(row.std);
  const rank = row.rank === null ? "being counted" : `${row.rank.toLocaleString("en")} of ${of.toLocaleString("en")}`;
  $("rank").textContent = rank;
  $("params").textContent = row.params.toLocaleString("en");
  $("flops").textContent = row.flops.toLocaleString("en");
  $("hash").textContent = row.hash;
  drawCharts();
}

function drawCharts() {
  if (state.picture) {
    histogram($("histogram"), state.picture, state.row);
    scatter($("scatter"), state.picture, state.row);
  }
  if (state.runs.length) drawRuns();
}

async function watchSpace(name) {
  for (;;) {
    let wait = 4;
    try {
      const picture = await ask(path("/space"));
      if (name !== state.name) return;
      const grown = !state.picture || state.picture.size !== picture.size;
      state.picture = picture;
      const part = picture.complete ? "the whole space" : `a random part of the space`;
      $("space-note").textContent = `${picture.size.toLocaleString("en")} architectures, ${part}; ${picture.points.mean.length.toLocaleString("en")} of them drawn.`;
      if (grown) {
        drawCharts();
        if (state.shown && state.of !== picture.size) guarded(rankAgain);
      }
      if (picture.complete) return;
    } catch (error) {
      if (error.status !== 503) return complain(error);
      wait = error.retry || 2;
      $("space-note").textContent = "The space is being ranked …";
    }
    await new Promise((done) => setTimeout(done, wait * 1000));
    if (name !== state.name) return;
  }
}

// --- suggestions and runs

async function suggest(k) {
  const limit = (id, unit) => ($(id).value === "" ? null : Math.round(Number($(id).value) * unit));
  const body = { k, max_params: limit("max-params", 1e6), max_flops: limit("max-flops", 1e9) };
  return (await ask(path("/suggest"), body)).suggestions;
}

async function showSuggestions() {
  const found = await suggest(10);
  const body = $("suggestions").tBodies[0];
  body.replaceChildren();
  for (const one of found) {
    const row = body.insertRow(), button = Object.assign(document.createElement("button"), { type: "button", textContent: one.architecture });
    button.onclick = () => guarded(async () => {
      await explain({ architecture: one.architecture });
      $("build").scrollIntoView({ behavior: "smooth" });
      $("build").focus({ preventScroll: true });
    });
    row.insertCell().append(button);
    for (const text of [score(one.mean), score(one.std), short(one.params), short(one.flops)]) row.insertCell().textContent = text;
  }
  $("suggestions").hidden = !found.length;
  $("suggest-note").textContent = found.length ? "" : "Nothing keeps within these limits.";
}

async function showRuns() {
  try {
    state.runs = (await ask("/v1/runs")).runs;
  } catch {
    return;
  }
  $("runs-section").hidden = !state.runs.length;
  if (!state.runs.length) return;
  const body = $("run-table").tBodies[0];
  body.replaceChildren();
  for (const run of state.runs) {
    const row = body.insertRow();
    const name = row.insertCell();
    if (!state.colours.has(run.run)) state.colours.set(run.run, state.colours.size);
    run.colour = state.colours.get(run.run);
    name.append(swatch(run.colour), ` ${run.run}`);
    const best = run.best.length ? score(run.best.at(-1)) : "–";
    for (const text of [run.state, run.sampler, `${run.evaluations} of ${run.budget}`, best, run.metric]) row.insertCell().textContent = text;
  }
  drawRuns();
  if (state.runs.some((run) => run.state !== "finished")) setTimeout(showRuns, 5000);
}

// Scores of different tasks do not compare: each task has axes of its own.
function drawRuns() {
  const names = [...new Set(state.runs.map((run) => run.task))];
  const tasks = names.map((task) => state.runs.filter((run) => run.task === task));
  const holders = tasks.map((runs) => {
    const figure = document.createElement("div"), chart = Object.assign(document.createElement("div"), { className: "chart" });
    const title = `${runs[0].metric}: ${runs.map((run) => run.run).join(", ")}`;
    figure.append(Object.assign(document.createElement("h3"), { textContent: title }), chart);
    return figure;
  });
  $("runs").replaceChildren(...holders);
  tasks.forEach((runs, i) => progress(holders[i].lastChild, runs));
}

function swatch(i) {
  const holder = document.createElement("span");
  holder.innerHTML = `<svg width="22" height="8" aria-hidden="true"><path class="line line${i % 6}" d="M0 4H22"/></svg>`;
  return holder;
}

// --- events

let typing;
$("text").oninput = () => {
  clearTimeout(typing);
  typing = setTimeout(() => guarded(() => explain({ architecture: $("text").value.trim() })), 250);
};
$("random").onclick = () => guarded(random);
$("best").onclick = () => guarded(async () => {
  const [one] = await suggest(1);
  if (one) await explain({ architecture: one.architecture });
});
$("copy").onclick = async () => {
  $("text").select();
  if (navigator.clipboard) await navigator.clipboard.writeText($("text").value).catch(() => {});
};
$("suggest-form").onsubmit = (event) => {
  event.preventDefault();
  guarded(showSuggestions);
};
$("key-form").onsubmit = (event) => {
  event.preventDefault();
  useKey($("key").value.trim());
  guarded(start);
};
addEventListener("resize", drawCharts);
guarded(start);
