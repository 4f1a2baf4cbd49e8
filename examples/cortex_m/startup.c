/* What a Cortex-M does before main: vectors, FPU on, data and bss in place, newlib's semihosting. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

extern unsigned char __stack[], __data_start[], __data_end[], __data_load[], __bss_start__[], __bss_end__[];
extern int main(void);
extern void initialise_monitor_handles(void);

void reset(void) {
  *(volatile uint32_t *)0xE000ED88 |= 0xFu << 20; /* CPACR: access to the FPU */
  __asm volatile("dsb\n isb");
  memcpy(__data_start, __data_load, (size_t)(__data_end - __data_start));
  memset(__bss_start__, 0, (size_t)(__bss_end__ - __bss_start__));
  initialise_monitor_handles();
  exit(main());
}

/* a fault ends the emulator instead of hanging it */
static void fault(void) { exit(70); }

__attribute__((section(".vectors"), used)) static void *const vectors[16] = {
  __stack, reset, fault, fault, fault, fault, fault, 0, 0, 0, 0, fault, fault, 0, fault, fault,
};
