/* SPDX-License-Identifier: Apache-2.0 */
/* ACPI tables, written front to back.
 *
 * RSDP → XSDT → FADT (→ DSDT), MADT, MCFG. The DSDT is AML byte code; the few operators that it needs
 * are the aml_* functions below (ACPI 6.4, 20.2). Packages know their length before their content, so
 * each is built in a buffer of its own. */
#include "vmm/acpi_x86.h"

#include <string.h>

#include "vmm/layout_x86.h"

#define HEADER_LEN 36u
#define RSDP_LEN   36u
#define AML_MAX    4096u

/* ---- tables ---- */

static void put_header(struct buf *b, const char *signature, uint8_t revision)
{
	buf_put(b, signature, 4);
	buf_put_le32(b, 0); /* length, table_end */
	buf_put_u8(b, revision);
	buf_put_u8(b, 0); /* checksum, table_end */
	buf_put(b, "HUTCH ", 6);
	buf_put(b, "HUTCHVMM", 8);
	buf_put_le32(b, 1);
	buf_put(b, "HTCH", 4);
	buf_put_le32(b, 1);
}

static uint8_t checksum(const uint8_t *p, size_t n)
{
	uint8_t sum = 0;

	for (size_t i = 0; i < n; i++)
		sum = (uint8_t)(sum + p[i]);
	return (uint8_t)-sum;
}

static void store_le32(uint8_t *p, uint32_t v)
{
	for (unsigned i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}

/* Close the table that began when the buffer had @start bytes. */
static void table_end(struct buf *b, size_t start)
{
	uint8_t *p;
	size_t len;

	if (b->failed)
		return;
	p = buf_head(b) + start;
	len = buf_len(b) - start;
	store_le32(p + 4, (uint32_t)len);
	p[9] = checksum(p, len);
	while (buf_len(b) % 16 && buf_put_u8(b, 0) == 0)
		;
}

/* Generic address: one 8-bit register at I/O port @port. */
static void put_port(struct buf *b, uint64_t port)
{
	buf_put_u8(b, 1); /* system I/O */
	buf_put_u8(b, 8);
	buf_put_u8(b, 0);
	buf_put_u8(b, 1); /* byte access */
	buf_put_le64(b, port);
}

/* Zeros up to offset @end of the table that began at @start. */
static void pad_to(struct buf *b, size_t start, size_t end)
{
	while (buf_len(b) - start < end && buf_put_u8(b, 0) == 0)
		;
}

/* 5.2.9. Hardware-reduced: no PM timer, no SMI, no fixed events; sleep and reset are ports. */
static void put_fadt(struct buf *b, uint64_t dsdt)
{
	size_t start = buf_len(b);

	put_header(b, "FACP", 6);
	buf_put_le32(b, 0); /* FACS */
	buf_put_le32(b, (uint32_t)dsdt);
	pad_to(b, start, 109);
	/* IAPC_BOOT_ARCH: no VGA, no CMOS clock; no i8042 either, which a driver would wait for. */
	buf_put_le16(b, 1u << 2 | 1u << 5);
	buf_put_u8(b, 0);
	/* Flags: WBINVD, reset register, hardware-reduced. */
	buf_put_le32(b, 1u << 0 | 1u << 10 | 1u << 20);
	put_port(b, LAYOUT_POWER + 2);
	buf_put_u8(b, 1); /* value that resets */
	buf_put_le16(b, 0);
	buf_put_u8(b, 4); /* minor version */
	buf_put_le64(b, 0);
	buf_put_le64(b, dsdt);
	pad_to(b, start, 244); /* blocks that reduced hardware lacks */
	put_port(b, LAYOUT_POWER);     /* sleep control */
	put_port(b, LAYOUT_POWER + 1); /* sleep status */
	buf_put(b, "HUTCH\0\0\0", 8);  /* hypervisor vendor */
	table_end(b, start);
}

/* 5.2.12. */
static void put_madt(struct buf *b, unsigned cpus)
{
	size_t start = buf_len(b);

	put_header(b, "APIC", 5);
	buf_put_le32(b, (uint32_t)LAYOUT_LAPIC);
	buf_put_le32(b, 0); /* no PC/AT PICs to be silenced */
	for (unsigned i = 0; i < cpus; i++) {
		buf_put_u8(b, 0); /* processor local APIC */
		buf_put_u8(b, 8);
		buf_put_u8(b, (uint8_t)i);
		buf_put_u8(b, (uint8_t)i);
		buf_put_le32(b, 1); /* enabled */
	}
	buf_put_u8(b, 1); /* I/O APIC */
	buf_put_u8(b, 12);
	buf_put_u8(b, 0);
	buf_put_u8(b, 0);
	buf_put_le32(b, (uint32_t)LAYOUT_IOAPIC);
	buf_put_le32(b, 0); /* its first interrupt */
	table_end(b, start);
}

/* PCI Firmware Specification 3.3, 4.1.2. */
static void put_mcfg(struct buf *b)
{
	size_t start = buf_len(b);

	put_header(b, "MCFG", 1);
	buf_put_le64(b, 0);
	buf_put_le64(b, LAYOUT_ECAM);
	buf_put_le16(b, 0); /* segment */
	buf_put_u8(b, 0);   /* first and last bus */
	buf_put_u8(b, 0);
	buf_put_le32(b, 0);
	table_end(b, start);
}

/* ---- AML ---- */

/* 20.2.4: a length that counts itself. */
static void aml_length(struct buf *to, size_t content)
{
	if (content + 1 < 64) {
		buf_put_u8(to, (uint8_t)(content + 1));
	} else if (content + 2 < 1u << 12) {
		size_t n = content + 2;

		buf_put_u8(to, (uint8_t)(1u << 6 | (n & 15)));
		buf_put_u8(to, (uint8_t)(n >> 4));
	} else {
		size_t n = content + 3;

		buf_put_u8(to, (uint8_t)(2u << 6 | (n & 15)));
		buf_put_u8(to, (uint8_t)(n >> 4));
		buf_put_u8(to, (uint8_t)(n >> 12));
	}
}

static void aml_block(struct buf *to, const char *op, size_t op_len, const struct buf *content)
{
	buf_put(to, op, op_len);
	aml_length(to, buf_len(content));
	buf_put(to, buf_head(content), buf_len(content));
}

static void aml_int(struct buf *to, uint64_t v)
{
	if (v <= 0xff) {
		buf_put_u8(to, 0x0a);
		buf_put_u8(to, (uint8_t)v);
	} else if (v <= 0xffffffff) {
		buf_put_u8(to, 0x0c);
		buf_put_le32(to, (uint32_t)v);
	} else {
		buf_put_u8(to, 0x0e);
		buf_put_le64(to, v);
	}
}

static void aml_name(struct buf *to, const char *name)
{
	buf_put_u8(to, 0x08);
	buf_put(to, name, 4);
}

static void aml_name_string(struct buf *to, const char *name, const char *value)
{
	aml_name(to, name);
	buf_put_u8(to, 0x0d);
	buf_put(to, value, strlen(value) + 1);
}

static void aml_name_int(struct buf *to, const char *name, uint64_t value)
{
	aml_name(to, name);
	aml_int(to, value);
}

/* A compressed EISA id, "PNP0A08" (ACPI 6.4, 19.6.36). */
static uint32_t eisa_id(const char *s)
{
	uint32_t v = (uint32_t)(s[0] - 0x40) << 26 | (uint32_t)(s[1] - 0x40) << 21 |
		(uint32_t)(s[2] - 0x40) << 16;

	for (unsigned i = 0; i < 4; i++) {
		char c = s[3 + i];

		v |= (uint32_t)(c <= '9' ? c - '0' : c - 'A' + 10) << (12 - 4 * i);
	}
	return __builtin_bswap32(v);
}

/* Name (_CRS, ResourceTemplate () { … }): a buffer of resource descriptors with an end tag. */
static void aml_resources(struct buf *to, struct buf *descriptors)
{
	_buf_ struct buf content;

	buf_put_u8(descriptors, 0x79); /* end tag; a checksum of 0 counts as right */
	buf_put_u8(descriptors, 0);
	buf_init(&content, AML_MAX);
	aml_int(&content, buf_len(descriptors));
	buf_put(&content, buf_head(descriptors), buf_len(descriptors));
	aml_name(to, "_CRS");
	aml_block(to, "\x11", 1, &content);
}

/* Fixed memory (6.4.3.4). */
static void put_memory(struct buf *to, uint64_t base, uint64_t len)
{
	buf_put_u8(to, 0x86);
	buf_put_le16(to, 9);
	buf_put_u8(to, 1); /* read and write */
	buf_put_le32(to, (uint32_t)base);
	buf_put_le32(to, (uint32_t)len);
}

/* Fixed I/O ports (6.4.2.5), decoded with 16 bits. */
static void put_ports(struct buf *to, uint16_t base, uint8_t len)
{
	buf_put_u8(to, 0x47);
	buf_put_u8(to, 1);
	buf_put_le16(to, base);
	buf_put_le16(to, base);
	buf_put_u8(to, 1);
	buf_put_u8(to, len);
}

/* Extended interrupt (6.4.3.6): consumer, edge-triggered, active high, exclusive. */
static void put_interrupt(struct buf *to, unsigned irq)
{
	buf_put_u8(to, 0x89);
	buf_put_le16(to, 6);
	buf_put_u8(to, 1u << 0 | 1u << 1);
	buf_put_u8(to, 1);
	buf_put_le32(to, irq);
}

static void put_mmio_device(struct buf *aml, const struct acpi_mmio *m, unsigned number)
{
	_buf_ struct buf device, resources;
	char name[5] = {'V', 'R', (char)('0' + number / 10), (char)('0' + number % 10), '\0'};

	buf_init(&device, AML_MAX);
	buf_init(&resources, AML_MAX);
	buf_put(&device, name, 4);
	aml_name_string(&device, "_HID", "LNRO0005"); /* what Linux calls virtio-mmio */
	aml_name_int(&device, "_UID", number);
	aml_name_int(&device, "_CCA", 1);
	put_memory(&resources, m->base, m->len);
	put_interrupt(&resources, m->irq);
	aml_resources(&device, &resources);
	aml_block(aml, "\x5b\x82", 2, &device);
}

/* Address space descriptor (6.4.3.5): @kind 0 memory, 1 I/O, 2 bus numbers, in @size bytes a field. */
static void put_window(struct buf *to, unsigned size, uint8_t kind, uint8_t flags, uint64_t min,
	uint64_t len)
{
	uint64_t fields[] = {0, min, min + len - 1, 0, len};

	buf_put_u8(to, size == 2 ? 0x88 : 0x87);
	buf_put_le16(to, (uint16_t)(3 + 5 * size));
	buf_put_u8(to, kind);
	buf_put_u8(to, 1u << 2 | 1u << 3); /* minimum and maximum are fixed; produced, not consumed */
	buf_put_u8(to, flags);
	for (unsigned i = 0; i < 5; i++)
		if (size == 2)
			buf_put_le16(to, (uint16_t)fields[i]);
		else
			buf_put_le32(to, (uint32_t)fields[i]);
}

static void put_host_bridge(struct buf *aml)
{
	_buf_ struct buf device, resources;

	buf_init(&device, AML_MAX);
	buf_init(&resources, AML_MAX);
	buf_put(&device, "PCI0", 4);
	aml_name_int(&device, "_HID", eisa_id("PNP0A08"));
	aml_name_int(&device, "_CID", eisa_id("PNP0A03"));
	aml_name_int(&device, "_UID", 0);
	aml_name_int(&device, "_SEG", 0);
	aml_name_int(&device, "_BBN", 0);
	aml_name_int(&device, "_CCA", 1);
	put_window(&resources, 2, 2, 0, 0, 1);
	put_ports(&resources, LAYOUT_PCI_PORT, 8);
	put_window(&resources, 4, 0, 1, LAYOUT_BAR, LAYOUT_BAR_LEN);
	aml_resources(&device, &resources);
	aml_block(aml, "\x5b\x82", 2, &device);
}

/* The configuration space window must be claimed, or Linux does not trust it. */
static void put_motherboard(struct buf *aml)
{
	_buf_ struct buf device, resources;

	buf_init(&device, AML_MAX);
	buf_init(&resources, AML_MAX);
	buf_put(&device, "MRES", 4);
	aml_name_int(&device, "_HID", eisa_id("PNP0C02"));
	put_memory(&resources, LAYOUT_ECAM, LAYOUT_ECAM_LEN);
	aml_resources(&device, &resources);
	aml_block(aml, "\x5b\x82", 2, &device);
}

/* Reduced hardware has no ISA interrupts but those that a device here names. */
static void put_serial(struct buf *aml)
{
	_buf_ struct buf device, resources;

	buf_init(&device, AML_MAX);
	buf_init(&resources, AML_MAX);
	buf_put(&device, "COM1", 4);
	aml_name_int(&device, "_HID", eisa_id("PNP0501"));
	aml_name_int(&device, "_UID", 0);
	put_ports(&resources, LAYOUT_COM1, 8);
	put_interrupt(&resources, LAYOUT_IRQ_COM1);
	aml_resources(&device, &resources);
	aml_block(aml, "\x5b\x82", 2, &device);
}

static void put_dsdt(struct buf *b, const struct acpi_config *c)
{
	size_t start = buf_len(b);
	_buf_ struct buf scope;

	buf_init(&scope, 4 * AML_MAX);
	buf_put(&scope, "\\_SB_", 5);
	put_serial(&scope);
	for (unsigned i = 0; i < c->n_mmio; i++)
		put_mmio_device(&scope, &c->mmio[i], i);
	if (c->pci) {
		put_motherboard(&scope);
		put_host_bridge(&scope);
	}
	put_header(b, "DSDT", 2);
	aml_block(b, "\x10", 1, &scope);
	/* Name (_S5, Package () {5, 5, 0, 0}): power off. */
	buf_put(b, "\x08_S5_\x12\x08\x04\x0a\x05\x0a\x05\x00\x00", 14);
	table_end(b, start);
	if (scope.failed)
		b->failed = true;
}

bool acpi_build(const struct acpi_config *c, uint64_t base, struct buf *to)
{
	uint64_t tables[3];
	unsigned n = 0;
	uint64_t dsdt;
	size_t start = buf_len(to), xsdt;
	uint8_t *rsdp;

	/* RSDP (5.2.5.3), completed at the end. */
	pad_to(to, start, 48);
	dsdt = base + buf_len(to) - start;
	put_dsdt(to, c);
	tables[n++] = base + buf_len(to) - start;
	put_fadt(to, dsdt);
	tables[n++] = base + buf_len(to) - start;
	put_madt(to, c->cpus);
	if (c->pci) {
		tables[n++] = base + buf_len(to) - start;
		put_mcfg(to);
	}
	xsdt = buf_len(to);
	put_header(to, "XSDT", 1);
	for (unsigned i = 0; i < n; i++)
		buf_put_le64(to, tables[i]);
	table_end(to, xsdt);
	if (to->failed)
		return false;
	rsdp = buf_head(to) + start;
	memcpy(rsdp, "RSD PTR ", 8);
	memcpy(rsdp + 9, "HUTCH ", 6);
	rsdp[15] = 2;
	store_le32(rsdp + 20, RSDP_LEN);
	store_le32(rsdp + 24, (uint32_t)(base + xsdt - start));
	rsdp[8] = checksum(rsdp, 20);
	rsdp[32] = checksum(rsdp, RSDP_LEN);
	return true;
}
