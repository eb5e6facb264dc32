/* SPDX-License-Identifier: Apache-2.0 */
/* Writing archives of kits: the same bytes for the same files. */
#pragma once

#include "base/err.h"

/* All of the directory @dirfd as a ZIP into the empty file @out. */
int pack_zip(int dirfd, int out, struct err *err);
/* What is below files/home and files/workspace as the layer of an OCI artifact. */
int pack_layer(int dirfd, int out, struct err *err);
