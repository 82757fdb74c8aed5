// Every page: what its script says, a short word to people who listen to the page, and commands that can be copied.
"use strict";
const told = (id) => JSON.parse(document.getElementById(id).textContent);
const TEXTS = told("shell-texts");
const said = document.getElementById("said");
const say = (text) => { said.textContent = text; };

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy]");
  if (!button) return;
  const text = button.parentElement.querySelector("code");
  try {
    await navigator.clipboard.writeText(text.textContent);
    say(TEXTS.copied);
  } catch {  // a browser that lets no page write there: select it, so that one key copies it
    getSelection().selectAllChildren(text);
    say(TEXTS.selected);
  }
});
