/**
 * Sounds, made here: no file, nothing to load. A browser lets a page sound only after the user has touched it, so sound is
 * off until it is turned on.
 */

/** How often a critical alert sounds until it is acknowledged: often enough to wake, seldom enough to read. */
const REPEAT_MS = 4000;

/** Tones of each severity: hertz, and seconds from the start. @type {Record<string, [number, number][]>} */
const TONES = {
  info: [[660, 0]],
  warning: [
    [660, 0],
    [660, 0.22],
  ],
  critical: [
    [880, 0],
    [660, 0.2],
    [880, 0.4],
    [660, 0.6],
  ],
};

/** Length of a tone in seconds. */
const TONE_S = 0.16;

/** Sounds for alerts. */
export class Sound extends EventTarget {
  constructor() {
    super();
    /** @type {AudioContext | null} */
    this.context = null;
    this.on = false;
    /** @type {ReturnType<typeof setInterval> | null} */
    this.repeating = null;
  }

  /**
   * Turns sound on, from a click or a key, or off.
   *
   * @param {boolean} on
   */
  turn(on) {
    this.on = on;
    if (on) {
      this.context ??= new AudioContext();
      this.context.resume();
      // So that who turned it on knows how it sounds, and that it does.
      this.play(this.repeating === null ? "info" : "critical");
    }
    this.dispatchEvent(new Event("turned"));
  }

  /**
   * Sounds once.
   *
   * @param {string} severity
   */
  play(severity) {
    if (!this.on || !this.context) return;
    const { context } = this;
    for (const [hertz, after] of TONES[severity] ?? []) {
      const tone = context.createOscillator();
      const volume = context.createGain();
      const start = context.currentTime + after;
      tone.frequency.value = hertz;
      // Rises and falls quickly: a hard edge clicks.
      volume.gain.setValueAtTime(0, start);
      volume.gain.linearRampToValueAtTime(0.25, start + 0.02);
      volume.gain.linearRampToValueAtTime(0, start + TONE_S);
      tone.connect(volume).connect(context.destination);
      tone.start(start);
      tone.stop(start + TONE_S);
    }
  }

  /**
   * Sounds again and again while something critical waits.
   *
   * @param {boolean} waits
   */
  insist(waits) {
    if (waits === (this.repeating !== null)) return;
    if (this.repeating !== null) {
      clearInterval(this.repeating);
      this.repeating = null;
      return;
    }
    this.play("critical");
    this.repeating = setInterval(() => this.play("critical"), REPEAT_MS);
  }
}
