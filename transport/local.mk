# Floor 1: bytes between ranks. Sees base only.
noinst_LIBRARIES += transport/libtransport.a
transport_libtransport_a_SOURCES = \
	transport/transport.c transport/transport.h \
	transport/transport_ops.h \
	transport/queue.c transport/queue.h \
	transport/spin.c transport/spin.h \
	transport/wire.c transport/wire.h \
	transport/auto/auto.h \
	transport/auto/choose.c \
	transport/auto/connect.c \
	transport/auto/endpoint.c \
	transport/auto/wait.c \
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
	transport/tcp/tcp.h \
	transport/tcp/address.c \
	transport/tcp/connect.c \
	transport/tcp/endpoint.c \
	transport/tcp/guard.c \
	transport/tcp/link.c \
	transport/tcp/sockets.c \
	transport/tcp/strangers.c \
	transport/tcp/uring.c \
	transport/tcp/watch.c
transport_libtransport_a_CPPFLAGS = $(AM_CPPFLAGS) $(URING_CFLAGS) $(SSL_CFLAGS)
TRANSPORT_LIBS = transport/libtransport.a $(URING_LIBS) $(SSL_LIBS)
