# One image for the box, the router, the web servers and the clients: docs/docker.md.
# Any Debian with Python 3.11 or newer will do: docker build --build-arg BASE_IMAGE=…
ARG BASE_IMAGE=debian:bookworm-slim

FROM ${BASE_IMAGE} AS build
# The old builder leaves this stage behind: docker image prune --filter label=l4box.stage=build
LABEL l4box.stage=build
RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc libnetfilter-queue-dev libpython3-dev python3-venv
WORKDIR /src
RUN python3 -m venv /opt/l4box
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
COPY requirements.txt requirements-build.txt ./
RUN PIP_CONSTRAINT=requirements-build.txt PIP_BUILD_CONSTRAINT=requirements-build.txt \
    /opt/l4box/bin/pip install --require-hashes --no-deps -r requirements.txt
COPY pyproject.toml setup.py README.md LICENSE ./
COPY lb lb
COPY netns netns
RUN PIP_CONSTRAINT=requirements-build.txt PIP_BUILD_CONSTRAINT=requirements-build.txt \
    /opt/l4box/bin/pip install --no-deps . \
 && /opt/l4box/bin/pip uninstall -y pip

FROM ${BASE_IMAGE}
# Its default site would take port 80, and its start scripts have no use here.
RUN apt-get update \
 && apt-get install -y --no-install-recommends \
    curl iproute2 iptables libcap2-bin libnetfilter-queue1 nftables nginx-light python3-minimal libpython3-stdlib \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*
# Nobody in here is root. This copy of setpriv can hand on the two capabilities of the lab, where the container
# has them: containers/entrypoint does, to the programs that need them. The group is root's, as the kernel tells
# how full a packet queue is (/proc/net/netfilter/nfnetlink_queue) to root and its group.
RUN useradd --system --no-create-home --gid root l4box \
 && install -d -o l4box /run/l4box /srv/l4box \
 && install /usr/bin/setpriv /usr/local/bin/setpriv-net \
 && setcap cap_net_admin,cap_net_raw+p /usr/local/bin/setpriv-net
COPY --from=build /opt/l4box /opt/l4box
COPY containers/entrypoint /usr/local/bin/entrypoint
COPY containers/box.toml /etc/l4box/box.toml
ENV PATH=/opt/l4box/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin PYTHONDONTWRITEBYTECODE=1
USER l4box
ENTRYPOINT ["entrypoint"]
CMD ["client", "--help"]
