# All that the queue holds, as an archive on standard output:  docker compose exec -T valkey sh < docker/backup.sh > FILE
#
# The log's files are a set as long as they are not compacted, so that waits until they have been read.

cli() { REDISCLI_AUTH=$(sed 's/^requirepass //' /run/wordlight/password.conf) valkey-cli "$@"; }

cli config set auto-aof-rewrite-percentage 0 >/dev/null
trap 'cli config set auto-aof-rewrite-percentage 100 >/dev/null' EXIT
while cli info persistence | grep -q aof_rewrite_in_progress:1; do sleep 1; done
tar cz -C /data appendonlydir
