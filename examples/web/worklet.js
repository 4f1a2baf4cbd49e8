// The amp on the audio thread: blocks of 128 samples through the exported model. Memory is taken once, before the first block.

const BLOCK = 128;
const REPORT = 24; // blocks: 64 ms at 48 kHz
const ALIGN = 64;

class Amp extends AudioWorkletProcessor {
  static get parameterDescriptors() {
    return [{ name: "drive", defaultValue: 0.7, minValue: 0, maxValue: 1, automationRate: "a-rate" }];
  }

  // options: bytes of the module, and how much memory a state takes
  constructor({ processorOptions: { wasm, arenaBytes } }) {
    super();
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(wasm));
    const { memory } = exports;
    this.model = exports;
    let end = exports.__heap_base.value;
    const take = (bytes) => {
      const start = Math.ceil(end / ALIGN) * ALIGN;
      end = start + bytes;
      return start;
    };
    this.state = take(arenaBytes);
    const [sound, drive, out, ins, outs] = [4 * BLOCK, 4 * BLOCK, 4 * BLOCK, 8, 4].map(take);
    const lacking = Math.ceil((end - memory.buffer.byteLength) / 65536);
    if (lacking > 0) memory.grow(lacking);
    [this.sound, this.drive, this.out] = [sound, drive, out].map((at) => new Float32Array(memory.buffer, at, BLOCK));
    new Uint32Array(memory.buffer, ins, 2).set([sound, drive]);
    new Uint32Array(memory.buffer, outs, 1).set([out]);
    [this.ins, this.outs] = [ins, outs];
    exports.amp_init(this.state);
    // where the audio thread has no fine clock, a mean over many blocks is as good with a coarse one
    this.now = globalThis.performance ? () => performance.now() : () => Date.now();
    this.clear();
  }

  clear() {
    this.blocks = this.peakIn = this.peakOut = this.busy = 0;
  }

  process([[given]], [[wanted]], { drive }) {
    if (!wanted) return true;
    if (given) this.sound.set(given);
    else this.sound.fill(0);
    if (drive.length === 1) this.drive.fill(drive[0]);
    else this.drive.set(drive);
    const began = this.now();
    this.model.amp_process(this.state, this.ins, this.outs, BLOCK);
    this.busy += this.now() - began;
    wanted.set(this.out);
    this.report();
    return true;
  }

  report() {
    for (const x of this.sound) this.peakIn = Math.max(this.peakIn, Math.abs(x));
    for (const y of this.out) this.peakOut = Math.max(this.peakOut, Math.abs(y));
    if (++this.blocks < REPORT) return;
    const { blocks, peakIn, peakOut, busy } = this;
    this.port.postMessage({ blocks, peakIn, peakOut, busy });
    this.clear();
  }
}

registerProcessor("amp", Amp);
