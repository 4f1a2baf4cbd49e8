/* Steps an exported model over the frames of x.bin in the working folder, and writes what it gives to y.bin. The compiler is told
 * STEPS; IN_BYTES, OUT_BYTES: sizes of the inputs and outputs of a step; MOST: the largest of them; ARGUMENTS of model_step. */
#include "model.h"
#include <stdio.h>

static _Alignas(MODEL_ALIGN) unsigned char state[MODEL_ARENA_BYTES];
static _Alignas(16) unsigned char in[MODEL_INPUTS][MOST], out[MODEL_OUTPUTS][MOST];
static const unsigned in_bytes[] = {IN_BYTES}, out_bytes[] = {OUT_BYTES};

int main(void) {
  FILE *x = fopen("x.bin", "rb"), *y = fopen("y.bin", "wb");
  if (!x || !y) return 2;
  model_init(state);
  for (int t = 0; t < STEPS; t++) {
    for (int k = 0; k < MODEL_INPUTS; k++)
      if (fread(in[k], 1, in_bytes[k], x) != in_bytes[k]) return 3;
    if (model_step(state, ARGUMENTS) != 1) return 4;
    for (int k = 0; k < MODEL_OUTPUTS; k++)
      if (fwrite(out[k], 1, out_bytes[k], y) != out_bytes[k]) return 5;
  }
  return fclose(y) ? 6 : 0;
}
