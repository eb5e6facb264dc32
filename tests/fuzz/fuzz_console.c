/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-console with hostile queues, input that comes in drops, and a reader that may be slow. */
#include "vdev_fuzz.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "dev/console.h"

struct peer {
	struct loop *loop;
	int out, in; /* the host's ends */
	bool slow;
	char buf[65536];
};

static void after(struct vdev *d, void *arg)
{
	struct peer *p = arg;
	size_t max = p->slow ? 100 : sizeof(p->buf);

	if (write(p->in, "input", 5) < 0 || read(p->out, p->buf, max) == 0)
		abort();
	if (loop_once(p->loop, 0, NULL) < 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct rd in = rd_make(data, size);
	struct peer *p = xcalloc(1, sizeof(*p));
	int out[2], input[2];
	struct console *c;

	signal(SIGPIPE, SIG_IGN);
	p->slow = rd_u8(&in) & 1;
	p->loop = loop_new(NULL);
	if (pipe2(out, O_CLOEXEC | O_NONBLOCK) < 0 || pipe2(input, O_CLOEXEC | O_NONBLOCK) < 0)
		abort();
	p->out = out[0];
	p->in = input[1];
	c = console_new(p->loop, out[1], input[0], NULL);
	if (!c)
		abort();
	vdev_fuzz(console_vdev(c), &in, after, p);
	console_free(c);
	loop_free(p->loop);
	for (int i = 0; i < 2; i++) {
		close(out[i]);
		close(input[i]);
	}
	free(p);
	return 0;
}
