#!/bin/bash
# On each machine of a cluster, before Spark: see that the shipped environment runs here.  It installs nothing.
# Usage: bootstrap.sh s3://bucket/artifacts/environment-PROCESSOR-HASH.tar.gz PYTHON gpu|cpu
set -euo pipefail
archive=$1 python=$2 kind=$3
fail() { echo "bootstrap: $*" >&2; exit 1; }

[ -x "$python" ] || fail "no $python on this machine: the release has another Python; name it in the cluster's file (interpreter)"
case "$archive" in
*"/environment-$(uname -m)-"*) ;;
*) fail "$archive is not for this processor, $(uname -m): another architecture in the cluster's file?" ;;
esac
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
aws s3 cp --only-show-errors "$archive" "$here/environment.tar.gz" || fail "$archive could not be read: does the machine's role allow it?"
mkdir "$here/environment"
tar -xzf "$here/environment.tar.gz" -C "$here/environment" || fail "$archive is damaged"
cd "$here"
modules="numpy scipy pandas pyarrow astropy astropy_healpix sklearn numba matplotlib jinja2 rich obstore boto3 reproject cv2"
[ "$kind" = cpu ] || modules="$modules cupy"
for module in $modules; do
    ./environment/bin/python -c "import $module" || fail "the environment's $module cannot be imported on this machine (see above)"
done
if [ "$kind" = gpu ]; then
    ./environment/bin/python -c "import cupy; print('bootstrap: GPUs:', cupy.cuda.runtime.getDeviceCount())" ||
        echo "bootstrap: no GPU here: coadds of this machine are made on the CPU" >&2
fi
echo "bootstrap: $(cat environment/arcmill-environment) runs here"
