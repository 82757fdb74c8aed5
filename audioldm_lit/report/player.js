// Several takes of one sound that run at the same time while one of them is heard: switching has no gap and keeps its place.
// A take is the id of a <script> element with Ogg Opus in base64.
"use strict";
class Player {
  static context = null;  // one for the page; browsers let it sound only after a first click or key
  static decoder = new OfflineAudioContext(1, 1, 48000);  // decodes before the first click too, at Opus's own rate
  static playing = null;  // one at a time

  constructor(takes, changed) {
    this.takes = takes;
    this.changed = changed;  // is called whenever it starts, stops or switches
    this.chosen = 0;
    this.at = 0;  // seconds, where it stands still
    this.sources = [];
  }

  get duration() { return this.buffers ? Math.max(...this.buffers.map((buffer) => buffer.duration)) : 0; }
  get running() { return this.sources.length > 0; }
  get seconds() { return this.running ? Math.min(Player.context.currentTime - this.began, this.duration) : this.at; }

  async load() {
    this.loading ??= Promise.all(this.takes.map((id) => {
      const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (letter) => letter.charCodeAt(0));
      return Player.decoder.decodeAudioData(bytes.buffer);
    }));
    this.buffers = await this.loading;
  }

  async play(from = this.at) {
    Player.context ??= new AudioContext();
    await this.load();
    await Player.context.resume();
    Player.playing?.pause();
    Player.playing = this;
    const start = from >= this.duration - 0.01 ? 0 : from;
    const context = Player.context;
    this.began = context.currentTime - start;
    this.gains = this.buffers.map((_, index) => new GainNode(context, { gain: index === this.chosen ? 1 : 0 }));
    this.sources = this.buffers.map((buffer, index) => {
      const source = new AudioBufferSourceNode(context, { buffer });
      source.connect(this.gains[index]).connect(context.destination);
      source.start(0, start);
      return source;
    });
    const longest = this.buffers.findIndex((buffer) => buffer.duration === this.duration);
    this.sources[longest].onended = () => this.stop(this.duration);
    this.changed();
  }

  pause() { this.stop(this.seconds); }

  stop(at) {
    for (const source of this.sources) { source.onended = null; source.stop(); }
    this.sources = [];
    this.at = at;
    if (Player.playing === this) Player.playing = null;
    this.changed();
  }

  choose(index) {
    if (this.running) {
      const now = Player.context.currentTime;
      this.gains.forEach((gain, take) => gain.gain.setTargetAtTime(take === index ? 1 : 0, now, 0.004));  // no click
    }
    this.chosen = index;
    this.changed();
  }

  async seek(seconds) {
    const at = Math.max(0, Math.min(seconds, this.duration || seconds));
    if (this.running) { await this.play(at); } else { this.at = at; this.changed(); }
  }
}
