// The report: a player for every prompt, its keys, and the order and choice of prompts.
"use strict";
const AT_ONCE = 24, STEP = 0.25;  // players shown at first; seconds of an arrow
const cards = [...document.querySelectorAll(".player")];
const listed = cards.filter((card) => card.closest("#players"));
const players = new Map();
let current = cards[0];

function playerOf(card) {
  if (!players.has(card)) {
    const takes = [...card.querySelectorAll(".choose")].map((button) => button.dataset.sound);
    players.set(card, new Player(takes, () => show(card)));
  }
  return players.get(card);
}

function show(card) {
  const player = playerOf(card);
  card.querySelector(".play").textContent = player.running ? "❚❚" : "▶";
  card.querySelector(".play").setAttribute("aria-label", player.running ? TEXTS.pause : TEXTS.play);
  card.querySelectorAll(".choose").forEach((button, index) => button.setAttribute("aria-pressed", index === player.chosen));
  card.querySelectorAll(".take").forEach((take, index) => take.classList.toggle("heard", index === player.chosen));
  move(card);
}

function move(card) {
  const player = playerOf(card), buttons = card.querySelectorAll(".choose");
  card.querySelectorAll(".cursor").forEach((cursor, index) => {
    cursor.style.left = `${Math.min(100, (100 * player.seconds) / buttons[index].dataset.seconds)}%`;
  });
  card.querySelector(".clock").textContent = `${player.seconds.toFixed(1)} s`;
  if (player.running) requestAnimationFrame(() => move(card));
}

function toggle(card) {
  const player = playerOf(card);
  if (player.running) player.pause(); else player.play();
}

function choose(card, index) {
  if (index >= card.querySelectorAll(".choose").length) return;
  playerOf(card).choose(index);
  say(card.querySelectorAll(".choose")[index].textContent);
}

function go(to) {
  const seen = listed.filter((card) => !card.hidden).sort((a, b) => a.compareDocumentPosition(b) & 4 ? -1 : 1);
  const next = seen[seen.indexOf(current) + to];
  if (next) { current = next; next.focus(); next.scrollIntoView({ block: "nearest" }); }
}

// Decoding takes a tenth of a second, so it begins where the pointer comes to a button, or the focus to a player.
const soon = (card) => card && playerOf(card).load();
document.addEventListener("pointerover", (event) => soon(event.target.closest(".player button")?.closest(".player")));
document.addEventListener("focusin", (event) => soon(event.target.closest(".player")));

document.addEventListener("click", (event) => {
  const card = event.target.closest(".player");
  if (!card) return;
  current = card;
  const button = event.target.closest("button");
  if (!button) return;
  if (button.matches(".play")) toggle(card);
  if (button.matches(".choose")) choose(card, [...card.querySelectorAll(".choose")].indexOf(button));
  if (button.matches(".picture")) {
    const index = [...card.querySelectorAll(".picture")].indexOf(button), place = button.getBoundingClientRect();
    choose(card, index);
    const share = event.detail ? (event.clientX - place.left) / place.width : 0;
    playerOf(card).play(share * card.querySelectorAll(".choose")[index].dataset.seconds);
  }
  if (event.detail) card.focus({ preventScroll: true });  // so that the keys that follow are this player's
});

document.addEventListener("keydown", (event) => {
  const inside = event.target.closest("select, input, textarea, a, summary, pre, .wide");
  if (inside || event.altKey || event.ctrlKey || event.metaKey || !current) return;
  const focused = event.target.closest(".player");
  if (focused) current = focused;
  if (event.key >= "1" && event.key <= "4") choose(current, event.key - 1);
  else if (event.key === " " && !event.target.closest("button")) toggle(current);
  else if (event.key === "ArrowLeft") playerOf(current).seek(playerOf(current).seconds - STEP);
  else if (event.key === "ArrowRight") playerOf(current).seek(playerOf(current).seconds + STEP);
  else if (event.key === "ArrowUp" && focused) go(-1);
  else if (event.key === "ArrowDown" && focused) go(1);
  else return;
  event.preventDefault();
});

const list = document.getElementById("players");
if (list) {
  const chosen = document.getElementById("class"), sorted = document.getElementById("sort"), more = document.getElementById("more");
  let most = AT_ONCE;
  const gain = (card, without) => card.dataset.gain === undefined ? without : Number(card.dataset.gain);
  const orders = {
    order: (a, b) => a.dataset.order - b.dataset.order,
    best: (a, b) => gain(b, -Infinity) - gain(a, -Infinity) || orders.order(a, b),
    worst: (a, b) => gain(a, Infinity) - gain(b, Infinity) || orders.order(a, b),
  };
  const arrange = () => {
    const fits = listed.filter((card) => !chosen.value || card.dataset.label === chosen.value).sort(orders[sorted.value]);
    listed.forEach((card) => { card.hidden = true; });
    fits.forEach((card, place) => { card.hidden = place >= most; });
    list.append(...fits);
    more.hidden = fits.length <= most;
    document.getElementById("count").textContent = `${Math.min(most, fits.length)} / ${listed.length}`;
    current = fits[0] ?? current;
  };
  chosen.addEventListener("change", arrange);
  sorted.addEventListener("change", arrange);
  more.addEventListener("click", () => { most = Infinity; arrange(); });
  arrange();
}
