# One small image for both programs: worker (the default) and starter.
#
#   docker build -t mobileid .
#   docker run mobileid                                    the worker
#   docker run --entrypoint /starter mobileid setup        the command line
#
# Settings come as MOBILEID_* and TEMPORAL_* variables or as a file that MOBILEID_CONFIG names; secrets as mounted
# files that settings name. What must outlive the container lies in /var/lib/mobileid and /var/lib/keyset (keys) and, for
# development only, /var/lib/devca and /var/lib/messaging. TEMPORAL_DEPLOYMENT_NAME and TEMPORAL_WORKER_BUILD_ID together
# give the worker a version.

# Not tried: no container engine was at hand. The tag follows the Go version that the project is tested with.
FROM golang:1.26.8-bookworm AS build
WORKDIR /src
# The toolchain of the image, never a downloaded one: the tag above says what the programs were built with.
ENV CGO_ENABLED=0 GOFLAGS=-mod=readonly GOTOOLCHAIN=local

# Requirements change less often than code: they get a layer of their own.
COPY go.mod go.sum ./
RUN go mod download

COPY . .
RUN go build -trimpath -buildvcs=false -ldflags='-s -w' -o /out/ ./worker ./starter \
 && mkdir -p /out/lib/mobileid /out/lib/keyset /out/lib/devca /out/lib/messaging /out/tmp \
 && echo 'mobileid:x:65532:65532::/var/lib/mobileid:/worker' >/out/passwd \
 && chmod 0700 /out/lib/*

# No shell, no package manager, no other user: nothing in it but what is named here.
FROM scratch
COPY --from=build /out/passwd /etc/passwd
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build --chown=65532:65532 /out/tmp /tmp
# Named volumes take over owner and mode of the folder that they are mounted on when they are first used.
COPY --from=build --chown=65532:65532 /out/lib /var/lib
COPY --from=build /out/worker /out/starter /

USER 65532:65532
WORKDIR /var/lib/mobileid
# From outside of the container too; where it is published is for whoever runs it to say.
ENV MOBILEID_WORKER_HEALTH_ADDRESS=0.0.0.0:8081 \
    MOBILEID_LOG_FORMAT=json
EXPOSE 8081
# There is no shell to ask with: starter does. Containers of starter's own servers say what they answer.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["/starter", "healthcheck", "http://127.0.0.1:8081/readyz"]
# Long enough for worker.stop_timeout: docker stop --time 40
STOPSIGNAL SIGTERM
ENTRYPOINT ["/worker"]
