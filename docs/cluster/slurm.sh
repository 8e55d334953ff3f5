#!/usr/bin/env bash
# Workers as an array of jobs; the search itself runs where the first `nasplatform run` was given.
#   sbatch docs/cluster/slurm.sh searches/trained-fashion.yaml postgresql+psycopg://nas@HOST/nas
#SBATCH --array=1-64
#SBATCH --cpus-per-task=4
#SBATCH --time=12:00:00
#SBATCH --signal=TERM@120
# A job that is cut off or preempted gives its measurement back on SIGTERM; one that is killed loses
# its lease after a minute, and another takes it up.
set -euo pipefail
export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}"
exec nasplatform worker "$1" --storage "$2" --wait 3600
