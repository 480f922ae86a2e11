// The viewer of a snapshot's clips. Everything from the dataset is put in as text, never as HTML.
"use strict";

const PER_PAGE = 50;
const at = (id) => document.getElementById(id);
const state = { about: null, marked: new Set(), offset: 0, found: 0, clips: [], current: -1, descending: false, playEach: false, asked: 0 };

function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined && text !== null) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function option(value, text) {
  const made = element("option", text);
  made.value = value;
  return made;
}

function number(value) {
  if (value === null || value === undefined) return "unknown";
  if (typeof value === "string") return value;
  return Number.isInteger(value) ? value.toLocaleString("en") : String(Number(value.toPrecision(4)));
}

function duration(seconds) {
  if (seconds < 60) return `${seconds.toFixed(seconds < 1 ? 3 : 1)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

async function ask(path, options) {
  const answer = await fetch(path, options);
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.error || `the server says ${answer.status}`);
  return content;
}

function tell(error) {
  at("trouble").hidden = !error;
  at("trouble").textContent = error ? String(error.message || error) : "";
}

// What is asked for

function query() {
  const asked = new URLSearchParams();
  for (const name of ["text", "split", "marked", "sort"]) if (at(name).value) asked.set(name, at(name).value);
  const label = at("label").value;
  if (label === "none") asked.set("unlabelled", "1");
  else if (label) asked.set("label", label.slice(1));
  if (state.descending) asked.set("order", "descending");
  for (const input of at("bounds").querySelectorAll("input")) if (input.value !== "") asked.set(input.name, input.value);
  return asked;
}

function restore(asked) {
  for (const name of ["text", "split", "marked", "sort"]) at(name).value = asked.get(name) || "";
  at("label").value = asked.get("unlabelled") ? "none" : asked.has("label") ? `=${asked.get("label")}` : "";
  for (const name of ["split", "marked", "sort", "label"]) if (at(name).selectedIndex < 0) at(name).selectedIndex = 0;
  for (const input of at("bounds").querySelectorAll("input")) {
    input.value = asked.get(input.name) || "";
    if (input.value) at("ranges").open = true;
  }
  setOrder(asked.get("order") === "descending");
}

function setOrder(descending) {
  state.descending = descending;
  at("order").textContent = descending ? "↓" : "↑";
  at("order").title = descending ? "descending" : "ascending";
  at("order").setAttribute("aria-label", at("order").title);
}

async function load(offset, current) {
  const asked = query();
  const turn = ++state.asked;
  const address = asked.toString();
  history.replaceState(null, "", address ? `?${address}` : location.pathname);
  asked.set("offset", offset);
  asked.set("limit", PER_PAGE);
  try {
    const page = await ask(`/api/clips?${asked}`);
    if (turn !== state.asked) return;
    tell(null);
    Object.assign(state, { offset: page.offset, found: page.found, clips: page.clips });
    show(page.seconds);
    choose(Math.min(current || 0, page.clips.length - 1), false);
  } catch (error) {
    if (turn === state.asked) tell(error);
  }
}

// What is shown

function show(seconds) {
  at("found").textContent = `${state.found.toLocaleString("en")} ${state.found === 1 ? "clip" : "clips"}, ${duration(seconds)}`;
  const last = state.offset + state.clips.length;
  at("place").textContent = state.clips.length ? `${(state.offset + 1).toLocaleString("en")} to ${last.toLocaleString("en")}` : "none";
  at("previous").disabled = state.offset === 0;
  at("next").disabled = last >= state.found;
  forgetPictures();
  at("clips").replaceChildren(...state.clips.map(card));
}

// A browser keeps six connections to a server. Pictures take three of them, so that pages and sounds do not wait for pictures.

const pictures = { most: 3, loading: new Set(), waiting: new Set(), seen: null };
pictures.seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) pictures.waiting.delete(entry.target);
    else if (!entry.target.src) pictures.waiting.add(entry.target);
  }
  drawPictures();
}, { rootMargin: "200px" });

function drawPictures() {
  for (const picture of pictures.waiting) {
    if (pictures.loading.size >= pictures.most) return;
    pictures.waiting.delete(picture);
    pictures.loading.add(picture);
    picture.onload = picture.onerror = () => { pictures.loading.delete(picture); drawPictures(); };
    picture.src = picture.dataset.address;
  }
}

function forgetPictures() {
  pictures.seen.disconnect();
  pictures.waiting.clear();
  for (const picture of pictures.loading) {
    picture.onload = picture.onerror = null;
    picture.removeAttribute("src");
  }
  pictures.loading.clear();
}

function card(clip, place) {
  const row = element("article", null, "clip");
  row.dataset.clip = clip.clip_id;
  const buttons = element("div", null, "buttons");
  const play = element("button", "▶", "play");
  play.type = "button";
  play.setAttribute("aria-label", `play ${clip.clip_id}`);
  play.addEventListener("click", () => { choose(place, false); playCurrent(); });
  const mark = element("button", "✕", "mark");
  mark.type = "button";
  mark.setAttribute("aria-label", `mark ${clip.clip_id}`);
  mark.disabled = !state.about.list;
  mark.addEventListener("click", () => { choose(place, false); toggle(place); });
  buttons.append(play, mark);
  const picture = element("img");
  picture.width = 240;
  picture.height = 104;
  picture.alt = `waveform and spectrogram of ${clip.clip_id}`;
  picture.dataset.address = `/api/clips/${encodeURIComponent(clip.clip_id)}/picture`;
  pictures.seen.observe(picture);
  picture.addEventListener("click", () => { choose(place, false); playCurrent(); });
  row.append(buttons, picture, facts(clip));
  paint(row);
  return row;
}

function facts(clip) {
  const about = element("div", null, "facts");
  const head = element("div");
  const label = Array.isArray(clip.labels) ? clip.labels.join(", ") : clip.label;
  if (label) head.append(element("strong", label));
  head.append(element("span", clip.split, "chip"), element("code", clip.clip_id));
  about.append(head);
  if (state.about.text && clip[state.about.text]) about.append(element("p", clip[state.about.text], "said"));
  const numbers = element("div", null, "numbers");
  for (const column of state.about.columns) {
    if (column.name === "n_samples" || !(column.name in clip) || (column.name !== "duration_s" && column.least === column.greatest)) continue;
    const value = element("span", `${column.name} ${number(clip[column.name])}`);
    value.title = `${column.meaning}${column.unit ? ` (${column.unit})` : ""}`;
    numbers.append(value);
  }
  const fields = element("div", null, "numbers");
  for (const name of state.about.fields) {
    if (name !== state.about.text && clip[name] !== null && clip[name] !== "") fields.append(element("span", `${name}: ${clip[name]}`));
  }
  about.append(numbers, fields, element("div", clip.recording_id, "soft"));
  return about;
}

function paint(row) {
  const marked = state.marked.has(row.dataset.clip);
  row.classList.toggle("is-marked", marked);
  row.querySelector(".mark").setAttribute("aria-pressed", String(marked));
}

function showMarks() {
  at("list").textContent = state.about.list ? `${state.marked.size.toLocaleString("en")} marked in ${state.about.list}` : "start with --list FILE to mark clips";
  for (const row of at("clips").children) paint(row);
}

// What a person does

function choose(place, scroll) {
  if (place < 0 || place >= state.clips.length) return;
  state.current = place;
  [...at("clips").children].forEach((row, i) => row.classList.toggle("current", i === place));
  if (scroll) at("clips").children[place].scrollIntoView({ block: "nearest" });
}

function playCurrent() {
  const clip = state.clips[state.current];
  if (!clip) return;
  const player = at("player");
  player.src = `/api/clips/${encodeURIComponent(clip.clip_id)}/audio`;
  at("playing").textContent = clip.clip_id;
  player.play().catch((error) => { if (error.name !== "AbortError") tell(error); });
}

async function toggle(place) {
  const clip = state.clips[place];
  if (!clip || !state.about.list) return;
  const marked = !state.marked.has(clip.clip_id);
  try {
    const done = await ask("/api/marks", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ clips: [clip.clip_id], marked }),
    });
    state.marked = new Set(done.marked);
    tell(null);
    showMarks();
  } catch (error) {
    tell(error);
  }
}

function move(step) {
  const next = state.current + step;
  if (next >= state.clips.length) turnPage(1);
  else if (next < 0) turnPage(-1, PER_PAGE - 1);
  else choose(next, true);
  if (state.playEach) playCurrent();
}

function turnPage(step, current) {
  const offset = state.offset + step * PER_PAGE;
  if (offset < 0 || offset >= state.found) return;
  load(offset, current).then(() => { if (current) choose(state.current, true); else window.scrollTo(0, 0); });
}

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const inField = ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName);
  if (inField) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const player = at("player");
  const acts = {
    j: () => move(1), ArrowDown: () => move(1), k: () => move(-1), ArrowUp: () => move(-1),
    n: () => turnPage(1), p: () => turnPage(-1), x: () => toggle(state.current),
    a: () => { state.playEach = !state.playEach; if (state.playEach) playCurrent(); },
    "/": () => at("text").focus(),
    " ": () => {
      const clip = state.clips[state.current];
      if (clip && at("playing").textContent === clip.clip_id && !player.ended) player.paused ? player.play() : player.pause();
      else playCurrent();
    },
  };
  const act = acts[event.key];
  const pressesButton = event.key === " " && ["BUTTON", "SUMMARY", "AUDIO"].includes(event.target.tagName);
  if (act && !pressesButton) {
    event.preventDefault();
    act();
  }
}

function fill(about) {
  state.about = about;
  state.marked = new Set(about.marked);
  document.title = `${about.name}, snapshot ${about.snapshot}`;
  at("name").textContent = document.title;
  const sampled = about.clips < about.clips_in_all ? `, a sample of ${about.clips_in_all.toLocaleString("en")} clips` : "";
  at("where").textContent = about.root + sampled;
  at("label").append(option("", "all labels"));
  for (const label of about.labels) {
    at("label").append(label.name ? option(`=${label.name}`, `${label.name} (${label.clips.toLocaleString("en")})`) : option("none", `no label (${label.clips.toLocaleString("en")})`));
  }
  at("split").append(option("", "all splits"), ...about.splits.map((s) => option(s.name, `${s.name} (${s.clips.toLocaleString("en")})`)));
  at("sort").append(option("", "as stored"), ...about.sortable.map((name) => option(name, `by ${name}`)));
  for (const column of about.columns) {
    const line = element("label", column.name);
    line.title = column.meaning;
    for (const [end, value] of [["min", column.least], ["max", column.greatest]]) {
      const input = element("input");
      Object.assign(input, { type: "number", step: "any", name: `${end}.${column.name}`, placeholder: number(value) });
      input.setAttribute("aria-label", `${end} ${column.name}`);
      line.append(input);
    }
    at("bounds").append(line);
  }
}

let waiting = 0;
function later() {
  clearTimeout(waiting);
  waiting = setTimeout(() => load(0), 150);
}

async function start() {
  try {
    fill(await ask("/api/about"));
  } catch (error) {
    tell(error);
    return;
  }
  restore(new URLSearchParams(location.search));
  at("filters").addEventListener("submit", (event) => event.preventDefault());
  at("text").addEventListener("input", later);
  at("bounds").addEventListener("input", later);
  for (const name of ["label", "split", "marked", "sort"]) at(name).addEventListener("change", () => load(0));
  at("order").addEventListener("click", () => { setOrder(!state.descending); load(0); });
  at("clear").addEventListener("click", () => { restore(new URLSearchParams()); load(0); });
  at("previous").addEventListener("click", () => turnPage(-1));
  at("next").addEventListener("click", () => turnPage(1));
  document.addEventListener("keydown", pressed);
  showMarks();
  await load(0);
  document.body.dataset.ready = "1";
}

start();
