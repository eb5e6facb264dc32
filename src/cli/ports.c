/* SPDX-License-Identifier: Apache-2.0 */
/* Published ports as JSON, for ports and ls. */
#include "cli/ports.h"

#include <string.h>

unsigned ports_where(const json_t *live, const struct spec_port *p)
{
	for (size_t i = 0; i < json_array_size(live); i++) {
		const json_t *o = json_array_get(live, i);
		const char *protocol = json_string_value(json_object_get(o, "protocol"));
		bool udp = protocol && strcmp(protocol, "udp") == 0;

		if (udp == p->udp && json_integer_value(json_object_get(o, "container")) ==
					     (json_int_t)p->container)
			return (unsigned)json_integer_value(json_object_get(o, "port"));
	}
	return 0;
}

json_t *ports_list(const struct box_spec *s, const json_t *live)
{
	json_t *list = json_array();

	for (size_t i = 0; i < s->n_ports; i++) {
		const struct spec_port *p = &s->ports[i];
		unsigned port = ports_where(live, p);

		json_array_append_new(list,
			json_pack("{s:i, s:s, s:s, s:o, s:s, s:s}", "container", (int)p->container,
				"protocol", p->udp ? "udp" : "tcp", "address", "127.0.0.1", "port",
				port ? json_integer(port) : json_null(), "name", p->name, "from",
				p->kit));
	}
	return list;
}
