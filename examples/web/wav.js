// 32-bit float WAV, one channel.

export function wav(samples, rate) {
  const data = new DataView(new ArrayBuffer(44 + 4 * samples.length));
  const text = (at, word) => [...word].forEach((c, k) => data.setUint8(at + k, c.charCodeAt(0)));
  text(0, "RIFF");
  data.setUint32(4, 36 + 4 * samples.length, true);
  text(8, "WAVEfmt ");
  data.setUint32(16, 16, true);
  data.setUint16(20, 3, true); // IEEE float
  data.setUint16(22, 1, true);
  data.setUint32(24, rate, true);
  data.setUint32(28, 4 * rate, true);
  data.setUint16(32, 4, true);
  data.setUint16(34, 32, true);
  text(36, "data");
  data.setUint32(40, 4 * samples.length, true);
  samples.forEach((x, k) => data.setFloat32(44 + 4 * k, x, true));
  return new Blob([data], { type: "audio/wav" });
}
