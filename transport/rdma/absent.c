/* In place of the transport where libibverbs and librdmacm are missing. */
#include <errno.h>
#include <stdio.h>

#include "base/log.h"
#include "transport/rdma/devices.h"
#include "transport/transport_ops.h"

#define HOW                                                                    \
	"built without libibverbs and librdmacm (Debian: apt-get install "     \
	"libibverbs-dev librdmacm-dev, then configure and make again)"

static bool endpoint_available(const struct transport_config *config, char *why,
			       size_t size)
{
	(void)config;
	snprintf(why, size, "built without rdma");
	return false;
}

static int endpoint_open(const struct transport_config *config,
			 struct transport_endpoint **out)
{
	(void)config;
	(void)out;
	return fail(-EOPNOTSUPP, "rdma: this program was " HOW
				 "; --transport tcp works without");
}

/* Nothing else is called on what cannot be opened. */
const struct transport_ops transport_rdma_ops = {
	.kind = "rdma",
	.available = endpoint_available,
	.open = endpoint_open,
};

int rdma_devices_list(struct rdma_port **out, unsigned *count, char *why,
		      size_t size)
{
	snprintf(why, size, "this program was " HOW);
	*out = NULL;
	*count = 0;
	return 0;
}

int rdma_devices_choose(const char *bind, struct sockaddr_storage *out,
			char *why, size_t size)
{
	(void)bind;
	(void)out;
	snprintf(why, size, "this program was " HOW);
	return -ENODEV;
}

bool rdma_devices_is_software(const char *device)
{
	(void)device;
	return false;
}
