/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's physical address space on x86-64: who lies where, in one place.
 *
 *   0            real-mode area, our boot structures, ACPI tables at 0xe0000
 *   0x100000     RAM, up to 3 GiB; the kernel at the address that it asks for, the initramfs at the end
 *   0xc0000000   device windows: PCI configuration space, BARs, virtio-mmio
 *   0xfec00000   I/O APIC, local APICs, KVM's own pages
 *   0x100000000  the rest of RAM */
#pragma once

#include <stdint.h>

#define LAYOUT_PAGE 4096u
#define LAYOUT_HUGE (2u << 20)

/* Below 1 MiB. */
#define LAYOUT_GDT         0x500u
#define LAYOUT_START_INFO  0x6000u /* PVH */
#define LAYOUT_BOOT_PARAMS 0x7000u /* Linux 64-bit protocol: one page */
#define LAYOUT_STACK       0x8ff0u /* grows down; the boot protocols want one */
#define LAYOUT_PAGE_TABLES 0x9000u /* PML4, PDPT, 4 page directories */
#define LAYOUT_CMDLINE     0x20000u
#define LAYOUT_CMDLINE_MAX 4096u   /* with the NUL; x86's COMMAND_LINE_SIZE is 2048 */
#define LAYOUT_EBDA        0x9fc00u
#define LAYOUT_ACPI        0xe0000u
#define LAYOUT_ACPI_MAX    0x20000u

#define LAYOUT_HIGH_START 0x100000u
#define LAYOUT_LOW_END    0xc0000000ull
#define LAYOUT_4G         0x100000000ull

/* Device windows. */
#define LAYOUT_ECAM      0xe0000000ull /* configuration space of bus 0 */
#define LAYOUT_ECAM_LEN  0x100000ull
#define LAYOUT_BAR       0xd0000000ull /* 32-bit memory window of the PCI bus */
#define LAYOUT_BAR_LEN   0x08000000ull
#define LAYOUT_MMIO      0xc0000000ull /* virtio-mmio: one page per device */
#define LAYOUT_MMIO_STEP 0x1000u
#define LAYOUT_IOAPIC    0xfec00000ull
#define LAYOUT_LAPIC     0xfee00000ull

/* I/O ports. */
#define LAYOUT_COM1     0x3f8u
#define LAYOUT_KEYBOARD 0x60u  /* i8042: data; 0x64 status and command */
#define LAYOUT_POWER    0x600u /* sleep control and status, reset: ACPI's hardware-reduced registers */
#define LAYOUT_PCI_PORT 0xcf8u

/* Interrupt lines (global system interrupts, edge-triggered). */
#define LAYOUT_IRQ_COM1   4u
#define LAYOUT_IRQ_DEVICE 5u /* first of the virtio-mmio devices */
