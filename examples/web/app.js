// The page: one AudioContext, one amp, one source at a time; the clip as a picture and as a file.

import { wav } from "./wav.js";

const RATE = 48000;
const DEADLINE = (128 / RATE) * 1e6; // us between two blocks
const QUIET = -60; // dBFS: the foot of the meters

const $ = (id) => document.getElementById(id);
const files = {};
let context, amp, source;

async function fetched(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${answer.statusText}`);
  return answer;
}

async function newAmp(within) {
  await within.audioWorklet.addModule("worklet.js");
  const node = new AudioWorkletNode(within, "amp", {
    numberOfInputs: 1,
    numberOfOutputs: 1,
    outputChannelCount: [1],
    channelCount: 1,
    channelCountMode: "explicit",
    processorOptions: { wasm: files.wasm, arenaBytes: files.about.arena_bytes },
  });
  node.parameters.get("drive").value = drive();
  return node;
}

const drive = () => Number($("drive").value) / 100;

// ---- live ------------------------------------------------------------------------------------------------------------------

async function start(name) {
  stop();
  if (!context) {
    context = new AudioContext({ sampleRate: RATE, latencyHint: "interactive" });
    amp = await newAmp(context);
    amp.connect(context.destination);
    amp.port.onmessage = ({ data }) => show(data);
  }
  await context.resume();
  source = await { clip: playClip, microphone: listen }[name]();
  source.node.connect(amp);
  for (const id of ["clip", "microphone"]) $(id).setAttribute("aria-pressed", String(id === name));
  say(name === "clip" ? "Playing the guitar clip, again and again." : "Live from the microphone. Headphones keep it from howling.");
}

function playClip() {
  const node = new AudioBufferSourceNode(context, { buffer: files.clip, loop: true });
  node.start();
  return { node, end: () => node.stop() };
}

async function listen() {
  const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  const media = await navigator.mediaDevices.getUserMedia({ audio: plain });
  return { node: context.createMediaStreamSource(media), end: () => media.getTracks().forEach((track) => track.stop()) };
}

function stop() {
  if (!source) return;
  source.node.disconnect();
  source.end();
  source = undefined;
  for (const id of ["clip", "microphone"]) $(id).setAttribute("aria-pressed", "false");
  say("Stopped.");
}

const times = { busy: 0, blocks: 0 };

function show({ blocks, peakIn, peakOut, busy }) {
  meter("in", source ? peakIn : 0);
  meter("out", source ? peakOut : 0);
  times.busy += busy;
  times.blocks += blocks;
  if (times.blocks * 128 < RATE || !source) return; // a mean over one second
  const time = (times.busy / times.blocks) * 1000;
  $("time").textContent = time < 10 ? time.toFixed(1) : time.toFixed(0);
  $("load").textContent = `${((100 * time) / DEADLINE).toFixed(1)} % of the ${DEADLINE.toFixed(0)} µs between two blocks`;
  times.busy = times.blocks = 0;
}

function meter(name, peak) {
  const level = Math.max(QUIET, 20 * Math.log10(Math.max(peak, 1e-9)));
  const bar = $(`meter-${name}`);
  bar.style.setProperty("--level", (level - QUIET) / -QUIET);
  bar.setAttribute("aria-valuenow", level.toFixed(0));
  bar.setAttribute("aria-valuetext", level > QUIET ? `${level.toFixed(0)} decibels` : "silent");
  $(`value-${name}`).textContent = level > QUIET ? String(Math.round(level) || 0).replace("-", "−") : "−∞";
}

// ---- the whole clip at once ------------------------------------------------------------------------------------------------

async function render() {
  $("render").disabled = true;
  const offline = new OfflineAudioContext(1, files.clip.length, RATE);
  const node = await newAmp(offline);
  const clip = new AudioBufferSourceNode(offline, { buffer: files.clip });
  clip.connect(node).connect(offline.destination);
  clip.start();
  const began = performance.now();
  const samples = (await offline.startRendering()).getChannelData(0);
  const took = (performance.now() - began) / 1000;
  const link = $("download");
  if (link.href) URL.revokeObjectURL(link.href);
  link.href = URL.createObjectURL(wav(samples, RATE));
  link.hidden = false;
  draw(samples);
  $("render").disabled = false;
  say(`Rendered ${files.clip.duration.toFixed(0)} s of sound in ${took.toFixed(2)} s, at drive ${Math.round(100 * drive())} %.`);
}

function draw(after) {
  const canvas = $("waves");
  const sharp = window.devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  [canvas.width, canvas.height] = [width * sharp, height * sharp];
  const pen = canvas.getContext("2d");
  pen.scale(sharp, sharp);
  const style = getComputedStyle(document.documentElement);
  const middle = height / 2;
  for (const [samples, colour] of [[after, "--after"], [files.clip.getChannelData(0), "--before"]]) {
    if (!samples) continue;
    pen.fillStyle = style.getPropertyValue(colour);
    for (let x = 0; x < width; x++) {
      const part = samples.subarray((x * samples.length) / width, ((x + 1) * samples.length) / width);
      const most = part.reduce((peak, s) => Math.max(peak, Math.abs(s)), 0);
      pen.fillRect(x, middle - most * middle, 1, Math.max(1, 2 * most * middle));
    }
  }
  if (after) canvas.setAttribute("aria-label", "Waveform of the clip: quiet and spiky before the amp, louder and fuller behind it");
}

// ---- start -----------------------------------------------------------------------------------------------------------------

function say(text, wrong = false) {
  $("status").textContent = text;
  $("status").classList.toggle("wrong", wrong);
}

// what a button does, and what the user is told where it fails
const does = (action) => () => action().catch((error) => {
  stop();
  $("render").disabled = false;
  say(error.name === "NotAllowedError" ? "The browser was not allowed to use the microphone." : error.message, true);
});

async function main() {
  const [wasm, about, sound] = await Promise.all(["amp/amp.wasm", "amp/amp.json", "guitar_48k.wav"].map(fetched));
  files.wasm = await wasm.arrayBuffer();
  files.about = await about.json();
  files.clip = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(await sound.arrayBuffer());
  const { layout, weights_bytes: weights } = files.about;
  $("facts").textContent =
    `${(files.wasm.byteLength / 1024).toFixed(0)} kB of WebAssembly, ${(weights / 1024).toFixed(0)} kB of it weights; ` +
    `a state of ${layout.sizes[0]} bytes. Nothing leaves this page.`;
  draw();
  for (const name of ["clip", "microphone"]) {
    $(name).addEventListener("click", does(() => ($(name).getAttribute("aria-pressed") === "true" ? Promise.resolve(stop()) : start(name))));
  }
  $("render").addEventListener("click", does(render));
  $("drive").addEventListener("input", () => {
    $("drive-value").textContent = `${$("drive").value} %`;
    amp?.parameters.get("drive").setTargetAtTime(drive(), context.currentTime, 0.02);
  });
  for (const id of ["clip", "microphone", "render"]) $(id).disabled = false;
  say("Ready.");
}

main().catch((error) => say(`This page needs what \`make\` builds: ${error.message}`, true));
