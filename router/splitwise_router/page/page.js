
"use strict";
// Reads `load` every two seconds and shows it: numbers as they are, rates and percentiles as the
// differences of two readings up to ten seconds apart.
const EVERY_MS = 2000, DEADLINE_MS = 5000, WINDOW_S = 10, PAST = 90;
const TIMES = {ttft: "first token (TTFT)", tbt: "between tokens (TBT)", e2e: "end to end (E2E)",
               queue: "queue", prefill: "prefill", transfer: "transfer", firstDecode: "first decode"};
const ROLES = ["prompt", "token", "mixed"];
const readings = [], past = new Map();
let paused = false, chosen = new Map();

const at = id => document.getElementById(id);
function say(id, text) { const node = at(id); if (node.textContent !== text) node.textContent = text; }
function make(tag, parent, className) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  parent.append(node);
  return node;
}

function number(value) {
  if (value >= 1e9) return (value / 1e9).toPrecision(3) + " G";
  if (value >= 1e6) return (value / 1e6).toPrecision(3) + " M";
  if (value >= 1e4) return (value / 1e3).toPrecision(3) + " k";
  return value >= 100 || Number.isInteger(value) ? String(Math.round(value)) : value.toPrecision(2);
}
const percent = share => Math.round(share * 100) + " %";
function seconds(value) {
  if (value === null) return "–";
  return value >= 1 ? value.toPrecision(3) + " s" : (value * 1000).toPrecision(3) + " ms";
}

// The percentile of a histogram's growth, by a straight line within its bucket.
function percentile(now, before, share) {
  const counts = now.counts.map((count, i) => count - (before ? before.counts[i] : 0));
  const all = counts[counts.length - 1];
  if (!(all > 0)) return null;
  const rank = share * all, bucket = counts.findIndex(count => count >= rank);
  if (bucket >= now.bounds.length) return now.bounds[now.bounds.length - 1];
  const below = bucket ? counts[bucket - 1] : 0, least = bucket ? now.bounds[bucket - 1] : 0;
  return least + (now.bounds[bucket] - least) * (rank - below) / (counts[bucket] - below);
}

function take(document_) {
  const last = readings[readings.length - 1];
  if (last && last.startedUnixSeconds !== document_.startedUnixSeconds) { readings.length = 0; past.clear(); }
  readings.push(document_);
  while (readings.length > 2 && readings[1].unixSeconds <= document_.unixSeconds - WINDOW_S) readings.shift();
  for (const pool of document_.pools) {
    const line = past.get(pool.pool) || [];
    line.push(pool.utilisation);
    if (line.length > PAST) line.shift();
    past.set(pool.pool, line);
  }
  for (const name of past.keys())
    if (!document_.pools.some(pool => pool.pool === name)) past.delete(name);
}

function show() {
  const now = readings[readings.length - 1], before = readings[0];
  const span = now.unixSeconds - before.unixSeconds;
  const rate = name => span > 0 ? (now.requests[name] - before.requests[name]) / span : 0;
  const then = span > 0 ? before.times : null;
  const time = name => then ? [.5, .9, .99].map(share => percentile(now.times[name], then[name], share)) : [null, null, null];
  const came = name => then ? now.times[name].counts.at(-1) - then[name].counts.at(-1) : 0;
  const p = name => { const [mid, , high] = time(name); return "P50 " + seconds(mid) + ", P99 " + seconds(high); };
  const sum = (name, roles) => now.pools.filter(pool => roles.includes(pool.role)).reduce((all, pool) => all + pool[name], 0);

  document.title = now.model + " – Splitwise";
  say("model", now.model);
  at("ready").className = "dot " + (now.ready ? "good" : "bad");
  at("ready").setAttribute("aria-label", now.ready ? "ready" : "not ready");
  at("news").className = now.ready ? "" : "bad";
  say("news", (now.ready ? "ready" : now.why) + " · " + new Date(now.unixSeconds * 1000).toLocaleTimeString());

  const queued = now.requests.waiting + sum("queuedRequests", ROLES);
  const arrivals = span > 0 ? came("ttft") / span : 0;
  say("queue-now", number(queued) + " waiting");
  say("queue-more", number(now.requests.waitingPromptTokens + sum("queuedTokens", ROLES)) + " tokens, " + seconds(now.requests.expectedWaitSeconds) + " to wait");
  say("queue-time", p("queue"));
  say("prefill-now", number(rate("promptTokens")) + " tokens/s");
  say("prefill-more", number(arrivals) + " requests/s");
  say("prefill-time", p("prefill"));
  say("transfer-now", number(rate("kvBytes")) + "B/s");
  const ways = [...new Set(now.transfer.map(pair => pair.transport))].join(", ");
  const failing = now.transfer.reduce((all, pair) => all + pair.failing, 0);
  say("transfer-more", (ways ? "by " + ways : "no link measured yet") + (failing ? ", " + failing + " links fail" : ""));
  say("transfer-time", p("transfer"));
  say("decode-now", number(rate("outputTokens")) + " tokens/s");
  say("decode-more", number(sum("running", ROLES)) + " running");
  say("decode-time", p("tbt"));

  say("times-of", span > 0 ? "of the last " + Math.round(span) + " s" : "");
  rows(Object.keys(TIMES).map(name => [TIMES[name], ...time(name).map(seconds), number(came(name))]));
  totals(now.requests);
  pools(now);
  say("left-out", now.workersLeftOut ? now.workersLeftOut + " less busy workers are not drawn; the pools' numbers count them." : "");
}

function rows(wanted) {
  const body = at("times");
  for (const [y, cells] of wanted.entries()) {
    const row = body.rows[y] || make("tr", body);
    for (const [x, text] of cells.entries()) {
      const cell = row.cells[x] || make(x ? "td" : "th", row);
      if (!x) cell.scope = "row";
      cell.textContent = text;
    }
  }
}

function totals(requests) {
  const list = at("totals"), answered = Object.entries(requests.answered);
  const good = answered.filter(([status]) => status === "200").reduce((all, [, n]) => all + n, 0);
  const other = answered.reduce((all, [, n]) => all + n, 0) - good;
  const wanted = [["answered", good], ["ended otherwise", other], ["turned away", requests.rejected],
    ["attempts repeated", requests.retried], ["prompt tokens", requests.promptTokens],
    ["tokens sent", requests.outputTokens], ["KV moved, bytes", requests.kvBytes], ["running now", requests.running]];
  for (const [i, [name, value]] of wanted.entries()) {
    const entry = list.children[i] || make("div", list);
    if (!entry.children.length) { make("dt", entry); make("dd", entry); }
    entry.children[0].textContent = name;
    entry.children[1].textContent = number(value);
    entry.children[1].title = String(value);
  }
}

function pools(now) {
  const home = at("pools");
  const names = now.pools.map(pool => pool.pool);
  for (const card of [...home.children]) if (!names.includes(card.dataset.pool)) card.remove();
  for (const pool of now.pools) {
    let card = [...home.children].find(node => node.dataset.pool === pool.pool);
    if (!card) {
      card = make("article", home, "pool");
      card.dataset.pool = pool.pool;
      const title = make("h3", card); title.append(pool.pool); make("span", title);
      for (const name of ["utilisation", "KV", "sequences", "queue"]) {
        const gauge = make("div", card, "gauge"); gauge.dataset.name = name;
        make("span", gauge).textContent = name; make("i", make("div", gauge, "bar")); make("span", gauge);
      }
      const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      svg.setAttribute("class", "past"); svg.setAttribute("viewBox", "0 0 " + (PAST - 1) + " 1");
      svg.setAttribute("preserveAspectRatio", "none"); svg.setAttribute("role", "img");
      svg.append(document.createElementNS(svg.namespaceURI, "line"), document.createElementNS(svg.namespaceURI, "polyline"));
      svg.firstChild.setAttribute("x2", PAST); svg.firstChild.setAttribute("y1", 1); svg.firstChild.setAttribute("y2", 1);
      card.append(svg);
      make("div", card, "workers"); make("p", card, "told");
    }
    card.classList.remove(...ROLES); card.classList.add(ROLES.includes(pool.role) ? pool.role : "mixed");
    draw(card, pool, now.workers.filter(worker => worker.pool === pool.pool));
  }
}

function draw(card, pool, workers) {
  const notes = [pool.role, pool.ready + "/" + pool.workers + " ready"];
  if (pool.draining) notes.push(pool.draining + " draining");
  if (pool.borrowed) notes.push(pool.borrowed + " borrowed");
  card.querySelector("h3 span").textContent = notes.join(" · ");
  const kv = pool.kvBlocks ? 1 - pool.freeKvBlocks / pool.kvBlocks : 0;
  const slots = pool.maxSequences ? pool.running / pool.maxSequences : 0;
  const shown = {
    utilisation: [pool.utilisation, percent(pool.utilisation)], KV: [kv, percent(kv)],
    sequences: [slots, pool.running + "/" + pool.maxSequences],
    queue: [Math.min(1, pool.backlogSeconds / 10), pool.queuedTokens ? number(pool.queuedTokens) + " tok" : "none"],
  };
  for (const gauge of card.querySelectorAll(".gauge")) {
    const [share, text] = shown[gauge.dataset.name];
    gauge.querySelector("i").style.width = 100 * share + "%";
    gauge.lastChild.textContent = text;
  }
  const line = past.get(pool.pool), svg = card.querySelector("svg");
  svg.setAttribute("aria-label", "utilisation over the last " + Math.round(line.length * EVERY_MS / 1000) + " s, now " + percent(pool.utilisation));
  svg.lastChild.setAttribute("points", line.map((share, i) => (PAST - line.length + i) + "," + (1 - share)).join(" "));
  tiles(card, pool, workers);
}

function tiles(card, pool, workers) {
  const home = card.querySelector(".workers"), told = card.querySelector(".told");
  const names = workers.map(worker => worker.pod);
  for (const tile of [...home.children]) if (!names.includes(tile.dataset.pod)) tile.remove();
  for (const worker of workers) {
    let tile = [...home.children].find(node => node.dataset.pod === worker.pod);
    if (!tile) {
      tile = make("button", home); tile.type = "button"; tile.dataset.pod = worker.pod;
      make("i", tile); make("i", tile);
      const choose = () => { chosen.set(pool.pool, worker.pod); told.textContent = tile.getAttribute("aria-label"); };
      tile.addEventListener("focus", choose); tile.addEventListener("click", choose);
    }
    const kv = worker.kvBlocks ? 1 - worker.freeKvBlocks / worker.kvBlocks : 0;
    const state = worker.draining ? "draining" : worker.ready ? "ready" : "not ready";
    tile.className = worker.draining ? "away" : worker.ready ? "" : "off";
    tile.children[0].style.height = 100 * worker.utilisation + "%";
    tile.children[1].style.height = 100 * kv + "%";
    const text = worker.pod + ": " + state + (worker.borrowed ? ", borrowed" : "") + ", utilisation " + percent(worker.utilisation)
      + ", KV " + percent(kv) + ", " + worker.running + " running, " + worker.queuedRequests + " queued";
    tile.setAttribute("aria-label", text);
    if (chosen.get(pool.pool) === worker.pod) told.textContent = text;
  }
  if (!chosen.has(pool.pool) || !names.includes(chosen.get(pool.pool)))
    told.textContent = workers.length ? "each bar: a worker's utilisation, and its KV; choose one for its numbers" : "no workers";
}

async function look() {
  if (!paused && !document.hidden) {
    try {
      const answer = await fetch("load", {cache: "no-store", signal: AbortSignal.timeout(DEADLINE_MS)});
      if (!answer.ok) throw new Error("the router answers " + answer.status);
      take(await answer.json());
      show();
    } catch (error) {
      at("news").className = "bad";
      at("ready").className = "dot bad";
      at("ready").setAttribute("aria-label", "not known");
      say("news", "the router does not answer; these numbers are old");
    }
  }
  setTimeout(look, EVERY_MS);
}

at("pause").addEventListener("click", () => {
  paused = !paused;
  at("pause").setAttribute("aria-pressed", String(paused));
  at("pause").textContent = paused ? "Go on" : "Pause";
});
document.addEventListener("keydown", event => {
  const step = {ArrowRight: 1, ArrowLeft: -1}[event.key], tile = document.activeElement;
  if (!step || !tile.dataset.pod) return;
  const all = [...document.querySelectorAll(".workers button")];
  all[(all.indexOf(tile) + step + all.length) % all.length].focus();
  event.preventDefault();
});
look();
