/* Two hundred readings of four sensors; for each the forecast of the next one, and how far it was from the last forecast. */
#include "readings.h"
#include "sensor/model.h"
#include <stdio.h>

#define THRESHOLD 4.0f /* the score is in standard deviations of the forecast error */

static _Alignas(SENSOR_ALIGN) unsigned char state[SENSOR_ARENA_BYTES];

int main(void) {
  float forecast[SENSOR_OUTPUT0_SIZE], score[SENSOR_OUTPUT1_SIZE];
  sensor_init(state);
  sensor_on_nonfinite(state, SENSOR_HOLD); /* a broken reading: the last good one */
  puts("reading,next0,next1,next2,next3,score,verdict");
  for (unsigned t = 0; t < sizeof readings / sizeof *readings; t++) {
    sensor_step(state, readings[t], forecast, score);
    /* the first reading has no forecast to be compared with */
    const char *verdict = t > 0 && score[0] > THRESHOLD ? "ANOMALY" : "ok";
    printf("%u,%.9g,%.9g,%.9g,%.9g,%.9g,%s\n", t + 1, (double)forecast[0], (double)forecast[1], (double)forecast[2],
           (double)forecast[3], (double)score[0], verdict);
  }
  printf("model: flash %d B (code %d, weights %d), RAM %d B of which %d are state\n", SENSOR_TEXT_BYTES + SENSOR_WEIGHTS_BYTES,
         SENSOR_TEXT_BYTES, SENSOR_WEIGHTS_BYTES, SENSOR_ARENA_BYTES, SENSOR_STATE_BYTES);
  return 0;
}
