// The pages of a blind test: a name, practice, one trial after the other, and the answers as a file. All text enters as text.
"use strict";
const TEST = told("test");
const SAYS = told("says");
const HEARD = 1;  // seconds of a sound that must be heard before it can be judged; of a short one half of it
const state = new State(TEST);
const part = (id) => document.getElementById(id);
const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
let trial = null;
let order = [];
let player = null;
let takes = [];  // of the trial: sound, label and button, in the order of their keys

function element(name, set = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(set)) {
    if (key in made) made[key] = value; else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function show(section) {
  for (const id of ["start", "trial", "end"]) part(id).hidden = id !== section;
  player?.pause();
}

// ---- sounds

function button(sound, label) {
  const key = takes.length + 1;
  const made = element("button", { type: "button", className: "play" }, label, ...(key < 10 ? [element("kbd", {}, String(key))] : []));
  made.setAttribute("aria-pressed", "false");
  const place = takes.push({ sound, made }) - 1;
  made.addEventListener("click", () => press(place));
  if (heard(place)) made.classList.add("heard");
  return made;
}

const heard = (place) => (state.one.heard[trial.id] ?? []).includes(place);

async function press(place) {
  if (player.running && player.chosen === place) { player.pause(); return; }
  const switching = player.running && trial.together;  // side by side: the place in the sound is kept
  if (player.running && !switching) player.pause();
  player.choose(place);
  if (!switching) await player.play(0);
}

function changed() {
  takes.forEach(({ made }, place) => made.setAttribute("aria-pressed", String(player?.running === true && player.chosen === place)));
}

let listened = {};
setInterval(() => {  // how much of each sound was heard
  if (!player?.running || !player.buffers) return;
  const place = player.chosen;
  listened[place] = (listened[place] ?? 0) + 0.1;
  if (!heard(place) && listened[place] >= Math.min(HEARD, player.buffers[place].duration / 2)) {
    (state.one.heard[trial.id] ??= []).push(place);
    takes[place].made.classList.add("heard");
    state.save();
    check();
  }
}, 100);

// ---- questions, each as the way in which it is answered says

const given = (question) => state.one.ratings[trial.id]?.[question] ?? {};
function answer(question, values) { state.answer(trial, question, values); check(); }

function radios(question, item, options, chosen, taken) {
  const name = `${question}-${item}`;
  return element("div", { className: options.length === 10 ? "steps ten" : "steps" }, ...options.map(([value, label]) => {
    const input = element("input", { type: "radio", name, value: String(value), checked: chosen === value });
    input.addEventListener("change", () => taken(value));
    return element("label", {}, input, label);
  }));
}

const WAYS = {
  steps(question, asked, item) {
    const numbers = Array.from({ length: asked.high - asked.low + 1 }, (_, step) => asked.low + step);
    const made = radios(question, item.id, numbers.map((value) => [value, String(value)]), given(question)[item.id],
      (value) => answer(question, { ...given(question), [item.id]: value }));
    const ends = asked.low_word ? [element("p", { className: "ends" }, element("span", {}, asked.low_word), element("span", {}, asked.high_word))] : [];
    return element("fieldset", {}, element("legend", {}, asked.asks), made, ...ends);
  },
  slider(question, asked, item, label) {
    const known = given(question)[item.id];
    const output = element("output", {}, known === undefined ? "–" : String(known));
    const input = element("input", { type: "range", min: asked.low, max: asked.high, step: 1, value: known ?? (asked.low + asked.high) / 2 });
    input.setAttribute("aria-label", `${label}: ${asked.asks}`);
    input.classList.toggle("untouched", known === undefined);
    const taken = () => {
      output.textContent = input.value;
      input.classList.remove("untouched");
      answer(question, { ...given(question), [item.id]: Number(input.value) });
    };
    for (const event of ["input", "change", "click"]) input.addEventListener(event, taken);
    return element("div", { className: "slider" }, input, output);
  },
  choice(question, asked) {
    const [a, b] = trial.items.map((item) => item.id);
    const known = given(question);
    const chosen = known[a] === undefined ? null : known[a] === known[b] ? "none" : known[a] > known[b] ? a : b;
    const made = radios(question, "all", [[a, SAYS.A], [b, SAYS.B], ["none", SAYS.neither]], chosen,
      (value) => answer(question, Object.fromEntries([a, b].map((id) => [id, value === "none" ? 0.5 : Number(id === value)]))));
    return element("fieldset", {}, element("legend", {}, asked.asks), made);
  },
  match(question, asked) {
    const known = given(question)[trial.x.id];
    const other = trial.items.find((item) => item.id !== trial.x.id).id;
    const chosen = known === undefined ? null : known === 1 ? trial.x.id : other;
    const made = radios(question, "all", trial.items.map((item, place) => [item.id, [SAYS.A, SAYS.B][place]]), chosen,
      (value) => answer(question, { [trial.x.id]: Number(value === trial.x.id) }));
    return element("fieldset", {}, element("legend", {}, asked.asks), made);
  },
};
const ONCE = new Set(["choice", "match"]);  // asked once a trial, not of every item

// ---- trials

function prepare(one) {
  const draw = state.draw(one);
  const items = shuffled(one.items, draw);
  const x = items[Math.floor(draw() * items.length)];
  const matched = one.questions.some((question) => TEST.questions[question].way === "match");
  return { ...one, items, x, matched, together: items.length > 1 };
}

function rows() {
  const ways = trial.questions.map((question) => [question, TEST.questions[question]]);
  const each = ways.filter(([, asked]) => !ONCE.has(asked.way));
  const made = [];
  if (trial.reference) made.push(element("p", { className: "sounds" }, button(trial.reference, SAYS.reference)));
  if (trial.together && each.length) made.push(element("p", {}, element("strong", {}, each[0][1].asks)));
  if (trial.together && each[0]?.[1].words) made.push(words(each[0][1].words));
  if (!each.length) {
    const buttons = trial.items.map((item, place) => button(item.sounds[0], [SAYS.A, SAYS.B][place]));
    if (trial.matched) buttons.push(button(trial.x.sounds[0], SAYS.X));
    made.push(element("p", { className: "sounds" }, ...buttons));
  }
  trial.items.forEach((item, place) => {
    if (!each.length) return;
    const label = (number) => fill(SAYS.sound, { number });
    const buttons = item.sounds.map((sound, number) => button(sound, label(trial.together ? place + 1 : number + 1)));
    const asked = each.map(([question, way]) => WAYS[way.way](question, way, item, label(place + 1)));
    made.push(element("div", { className: trial.together ? "item" : "item single" }, element("div", { className: "sounds" }, ...buttons), element("div", {}, ...asked)));
  });
  return [...made, ...ways.filter(([, asked]) => ONCE.has(asked.way)).map(([question, asked]) => WAYS[asked.way](question, asked))];
}

function words(text) {
  return element("div", { className: "item" }, element("span", {}), element("p", { className: "scale-words" }, ...text.split(" | ").map((word) => element("span", {}, word))));
}

function open() {
  order = state.order();
  if (state.one.at >= order.length) { finish(); return; }
  show("trial");
  [trial, takes, listened] = [prepare(order[state.one.at]), [], {}];
  const practice = order.filter((one) => one.kind === "practice").length;
  const asked = { number: state.one.at - practice + 1, count: order.length - practice };
  part("progress").value = Math.max(0, asked.number - 1) / asked.count;
  part("place").textContent = trial.kind === "practice" ? "" : fill(SAYS.place, asked);
  part("trial-title").textContent = trial.kind === "practice" ? SAYS.practice : fill(SAYS.title, asked);
  part("practice-note").hidden = trial.kind !== "practice";
  part("caption-line").hidden = !trial.caption;
  part("caption").textContent = trial.caption;
  part("answers").replaceChildren(...rows());
  player = new Player(takes.map(({ sound }) => sound), changed);
  player.load();  // while the rater reads
  trial.opened = Date.now();
  check();
  part("trial-title").focus();
}

function missing() {
  if (!takes.every((_, place) => heard(place))) return SAYS.hear_all;
  const whole = trial.questions.every((question) => {
    const asked = TEST.questions[question];
    return Object.keys(given(question)).length >= (asked.way === "match" ? 1 : trial.items.length);
  });
  return whole ? "" : SAYS.answer_all;
}

function check() {
  const lacks = missing();
  part("missing").textContent = lacks;
  part("next").setAttribute("aria-disabled", String(lacks !== ""));
}

function next() {
  if (missing()) { say(missing()); return; }
  say("");
  state.one.seconds[trial.id] = Math.round((state.one.seconds[trial.id] ?? 0) + (Date.now() - trial.opened) / 1000);
  state.one.at += 1;
  state.save();
  open();
}

function finish() {
  state.one.finished ??= new Date().toISOString();
  state.save();
  show("end");
  part("comment").value = state.one.comment ?? "";
  part("file").textContent = "";
  part("end-title").focus();
}

function download() {
  const answers = JSON.stringify(state.answers(document.documentElement.lang), null, 1);
  const plain = state.one.rater.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 40);
  const name = ["answers", TEST.test.slice(0, 6), plain, hashed(state.current).toString(16).padStart(8, "0")].filter(Boolean).join("-") + ".json";
  const link = element("a", { href: URL.createObjectURL(new Blob([answers], { type: "application/json" })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  part("file").textContent = fill(SAYS.file, { name });
}

part("name-form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!State.who(part("rater").value)) return;
  state.begin(part("rater").value);
  open();
});
part("next").addEventListener("click", next);
part("download").addEventListener("click", download);
part("comment").addEventListener("input", (event) => { state.one.comment = event.target.value; state.save(); });
part("another").addEventListener("click", () => { state.leave(); part("rater").value = ""; show("start"); part("rater").focus(); });
document.addEventListener("keydown", (event) => {
  if (part("trial").hidden || event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
  const place = Number(event.key) - 1;
  if (takes[place]) press(place);
  else if (event.key === " " && !event.target.closest("button, input, summary")) { if (player.running) player.pause(); else press(player.chosen); }
  else if (event.key === "Enter" && !event.target.closest("button, summary")) next();
  else return;
  event.preventDefault();
});
if (state.one) open();
