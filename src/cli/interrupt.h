/* SPDX-License-Identifier: Apache-2.0 */
/* Ctrl-C and the like while something is being made that then has to go again. */
#pragma once

/* From here on SIGINT, SIGTERM and SIGHUP, where they are not ignored, only end interrupt_wait(). */
void interrupt_begin(void);
void interrupt_end(void);

/* Wait until @fd is readable: 0, or -1 when there was such a signal. */
int interrupt_wait(int fd);
/* The signal, or 0. Still told after interrupt_end(). */
int interrupt_signal(void);
