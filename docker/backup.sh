# Writes all data of the queue as an archive to standard output:
#   docker compose exec -T valkey sh < docker/backup.sh > FILE
#
# The files of the append-only log are consistent as long as Valkey does not rewrite it, so rewriting is off meanwhile.

cli() { REDISCLI_AUTH=$(sed 's/^requirepass //' /run/wordlight/password.conf) valkey-cli "$@"; }

cli config set auto-aof-rewrite-percentage 0 >/dev/null
trap 'cli config set auto-aof-rewrite-percentage 100 >/dev/null' EXIT
while cli info persistence | grep -q aof_rewrite_in_progress:1; do sleep 1; done
tar cz -C /data appendonlydir
