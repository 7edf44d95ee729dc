# Floor 1: bytes between ranks. Sees base only.
noinst_LIBRARIES += transport/libtransport.a
transport_libtransport_a_SOURCES = \
	transport/transport.c transport/transport.h \
	transport/transport_ops.h \
	transport/hello.c transport/hello.h \
	transport/queue.c transport/queue.h \
	transport/spin.c transport/spin.h \
	transport/wire.c transport/wire.h \
	transport/auto/auto.h \
	transport/auto/choose.c \
	transport/auto/connect.c \
	transport/auto/endpoint.c \
	transport/auto/wait.c \
	transport/fault/fault.h \
	transport/fault/plan.h \
	transport/fault/endpoint.c \
	transport/fault/plan.c \
	transport/fault/relay.c \
	transport/inproc/inproc.h \
	transport/inproc/bell.c \
	transport/inproc/endpoint.c \
	transport/inproc/hub.c \
	transport/inproc/lane.c \
	transport/secure/secure.h \
	transport/secure/cipher.c \
	transport/secure/key.c \
	transport/secure/record.c \
	transport/secure/session.c \
	transport/shm/ring.h \
	transport/shm/shm.h \
	transport/shm/connect.c \
	transport/shm/endpoint.c \
	transport/shm/link.c \
	transport/shm/mail.c \
	transport/shm/memory.c \
	transport/shm/wait.c \
	transport/tcp/tcp.h \
	transport/tcp/address.c \
	transport/tcp/connect.c \
	transport/tcp/direct.c \
	transport/tcp/endpoint.c \
	transport/tcp/link.c \
	transport/tcp/shield.c \
	transport/tcp/sockets.c \
	transport/tcp/strangers.c \
	transport/tcp/uring.c \
	transport/tcp/watch.c
transport_libtransport_a_SOURCES += \
	transport/rdma/control.c transport/rdma/control.h \
	transport/rdma/devices.h
if HAVE_RDMA
transport_libtransport_a_SOURCES += \
	transport/rdma/rdma.h \
	transport/rdma/connect.c \
	transport/rdma/devices.c \
	transport/rdma/endpoint.c \
	transport/rdma/link.c \
	transport/rdma/sleep.c
else
transport_libtransport_a_SOURCES += transport/rdma/absent.c
endif
transport_libtransport_a_CPPFLAGS = $(AM_CPPFLAGS) $(URING_CFLAGS) \
	$(RDMA_CFLAGS) $(SSL_CFLAGS)
TRANSPORT_LIBS = transport/libtransport.a $(URING_LIBS) $(RDMA_LIBS) \
	$(SSL_LIBS)
