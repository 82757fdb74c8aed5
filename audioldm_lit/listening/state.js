// What a rater has said so far, kept by the browser under the test's hash, so that a reload loses nothing.
"use strict";

// A number of 32 bits from a text (FNV-1a), and numbers in [0, 1) from it (mulberry32): the same order for the same name.
function hashed(text) {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
}
function draws(text) {
  let state = hashed(text);
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
function shuffled(list, draw) {
  const order = [...list];
  for (let last = order.length - 1; last > 0; last -= 1) {
    const other = Math.floor(draw() * (last + 1));
    [order[last], order[other]] = [order[other], order[last]];
  }
  return order;
}

class State {
  constructor(test) {
    this.test = test;
    this.key = `audioldm_lit listening ${test.test}`;
    this.raters = {};
    this.current = null;
    try {
      const kept = JSON.parse(localStorage.getItem(this.key) ?? "{}");
      this.raters = Object.assign(Object.create(null), kept.raters);
      this.current = kept.current ?? null;
    } catch { /* a browser that keeps nothing: the test goes on, the first page says that it must not be closed */ }
  }

  static who(name) { return name.normalize("NFKC").trim().toLowerCase().replace(/\s+/gu, " "); }

  get one() { return this.current === null ? null : this.raters[this.current] ?? null; }

  begin(name) {
    this.current = State.who(name);
    this.raters[this.current] ??= { rater: name.trim(), began: new Date().toISOString(), at: 0, ratings: {}, heard: {}, seconds: {} };
    this.save();
  }

  leave() { this.current = null; this.save(); }

  // Trials in this rater's order, practice first.
  order() {
    const draw = draws(`${this.test.test} ${this.current}`);
    const [practice, asked] = [true, false].map((first) => this.test.trials.filter((trial) => (trial.kind === "practice") === first));
    return [...practice, ...shuffled(asked, draw)];
  }

  draw(trial) { return draws(`${this.test.test} ${this.current} ${trial.id}`); }

  answer(trial, question, values) {
    ((this.one.ratings[trial.id] ??= {}))[question] = values;
    this.save();
  }

  save() {
    try { localStorage.setItem(this.key, JSON.stringify({ raters: { ...this.raters }, current: this.current })); } catch { /* as above */ }
  }

  // What leaves: the practice is nobody's business.
  answers(language) {
    const { rater, began, finished, comment = "", ratings, seconds } = this.one;
    const asked = Object.fromEntries(this.test.trials.filter((trial) => trial.kind !== "practice").map((trial) => [trial.id, ratings[trial.id]]));
    return { format: "audioldm_lit listening answers 1", test: this.test.test, rater, language, began, finished, comment, ratings: asked, seconds };
  }
}
