#!/usr/bin/env bash
# Downloads one of the authors' data sets and unpacks it to data/NAME, or data/NAME_pairs, beside this script; --help tells the rest.
# Keeps to bash 3.2, which is what macOS has.

set -u

readonly TIMES=4 # as large as the table says a set may be, packed or unpacked: photographs hardly shrink in an archive, a hostile file does
readonly URL=https://efrosgans.eecs.berkeley.edu/cyclegan/datasets
readonly URL_OF_PAIRS=https://efrosgans.eecs.berkeley.edu/pix2pix/datasets

# Name, MB to download, domain A, domain B; of pairs the left half, the right half. It is looked up here before it becomes part of a path.
readonly SETS="\
apple2orange              78  apples, navel oranges
summer2winter_yosemite   133  Yosemite in summer, in winter
horse2zebra              117  wild horses, zebras
monet2photo              305  paintings by Monet, landscape photographs
cezanne2photo            280  paintings by Cezanne, landscape photographs
ukiyoe2photo             293  ukiyo-e prints, landscape photographs
vangogh2photo            307  paintings by Van Gogh, landscape photographs
maps                    1477  aerial photographs, maps
facades                   35  photographs of facades, their label maps
iphone2dslr_flower       340  flowers by phone, by a camera with a shallow depth of field
ae_photos                 10  landscape photographs to try a trained model on; no training folders
grumpifycat               20  Russian Blue cats, Grumpy Cat; no test folders
cityscapes                 -  street scenes, their label maps; has to be prepared by hand, its licence forbids copies
pix2pix/facades           30  photographs of facades, their label maps; pairs, as all that follow
pix2pix/maps             239  aerial photographs, maps
pix2pix/edges2shoes     2107  drawings of shoes, photographs
pix2pix/edges2handbags  8214  drawings of handbags, photographs
pix2pix/night2day       1968  places at night, by day
pix2pix/cityscapes         -  as above"

usage() {
    cat <<END
usage: bash download_dataset.sh NAME

Downloads a data set of the CycleGAN authors and unpacks it to data/NAME beside this script: trainA, trainB, testA, testB.
pix2pix/NAME is one of pairs, pictures side by side, and goes to data/NAME_pairs: train, and val or test.
If the download is cut off, the same command resumes it. NAME is one of (MB to download; domain A, domain B):

$SETS

environment: DATASET_URL, the address of another folder with NAME.zip in it, or NAME.tar.gz
    (default: $URL, or $URL_OF_PAIRS)
exit status: 0 done, 1 network or archive at fault, 2 wrong input, 130 interrupted, 143 terminated, 129 terminal lost
END
}

die() { # STATUS MESSAGE
    printf 'download_dataset.sh: %s\n' "$2" >&2
    exit "$1"
}

clean_up() {
    [[ -z $tmp ]] || rm -rf "$tmp"
    [[ -s $part ]] || rm -f "$part" # wget creates it before it knows that there is anything to download
}

stop() { # STATUS WORD
    trap '' INT TERM HUP
    # shellcheck disable=SC2046  # one word for each process
    kill $(jobs -p) 2>/dev/null
    wait 2>/dev/null
    [[ ! -t 2 ]] || printf '\r\033[K' >&2
    if [[ -s $part ]]; then
        die "$1" "$2; the same command resumes the download"
    fi
    die "$1" "$2"
}

progress() { # PID MB
    while kill -0 "$1" 2>/dev/null; do
        if [[ -f $part ]]; then
            printf '\r%s: %d of about %d MB' "${archive#data/}" $(($(wc -c <"$part") / 1000000)) "$2" >&2
        fi
        sleep 0.5
    done
    printf '\r\033[K' >&2
}

run() { # COMMAND...
    # In the background, because bash runs no trap before a foreground command has ended. Without <&0 that would cost the command its stdin.
    {
        [[ $downloading == no ]] || ulimit -f $((TIMES * size * 1000)) # blocks of 1024 bytes
        exec "$@"
    } <&0 2>"$tmp/log" &
    local pid=$!
    if [[ -t 2 && $downloading == yes ]]; then
        progress "$pid" "$size"
    fi
    wait "$pid" 2>/dev/null
}

fetch() {
    if command -v curl >/dev/null; then
        run curl -fgsSL --connect-timeout 30 --speed-limit 1 --speed-time 60 -C - -o "$part" "$url"
    elif command -v wget >/dev/null; then
        run env LC_ALL=C wget -nv -t 1 -T 60 -c -O "$part" "$url"
    else
        run python3 -IS - "$url" "$part" <<'END'
import http.client, os, shutil, sys, urllib.error, urllib.request

url, part = sys.argv[1:]
have = os.path.getsize(part) if os.path.exists(part) else 0
request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
try:
    with urllib.request.urlopen(request, timeout=60) as answer, open(part, "ab" if answer.status == 206 else "wb") as file:
        shutil.copyfileobj(answer, file)
        if answer.length:
            sys.exit(f"transfer closed with {answer.length} bytes remaining to read")
except (OSError, http.client.HTTPException) as e:
    sys.exit(str(e) or type(e).__name__)
END
    fi
}

ask_for_room() {
    local have=0 need free
    [[ ! -f $part ]] || have=$(($(wc -c <"$part") / 1000000))
    need=$((2 * size - have))
    free=$(python3 -IS -c 'import shutil; print(shutil.disk_usage("data").free // 1000000)' 2>/dev/null)
    if [[ -n $free && $free -lt $need ]]; then
        die 1 "data: $free MB free, but to download and unpack $name takes about $need MB: make room and run again"
    fi
}

download() {
    local status reason http pause
    for pause in 1 2 4 ''; do # our own loop: within one call, curl's --retry throws away what the failed attempt has brought
        if fetch; then
            return
        else
            status=$?
        fi
        if [[ -f $part && $(wc -c <"$part") -ge $((TIMES * size * 1000000)) ]]; then
            rm -f "$part"
            die 1 "$url: is larger than $((TIMES * size)) MB, so it is not the data set: set DATASET_URL to a mirror"
        fi
        reason=$(tail -n 1 "$tmp/log")
        reason=${reason#curl: (*) } reason=${reason%.}
        http=
        if [[ $reason =~ ([Ee]rror:?|ERROR|HTTP/[0-9.]+)\ ([0-9]{3}) ]]; then
            http=${BASH_REMATCH[2]}
        fi
        case $http in
            416) return ;; # there is nothing after what we have: the check of the archive tells whether it is whole
            408 | 429) ;;  # these two may pass, like a server's own errors
            4??) die 1 "$url: the server answers $http: try later, or set DATASET_URL to a mirror" ;;
        esac
        if [[ $status == 33 ]]; then # curl alone cannot go on without the server's help
            rm -f "$part"
        elif [[ -n $pause ]]; then
            run sleep "$pause"
        fi
    done
    if [[ -s $part ]]; then
        die 1 "$url: ${reason:-the connection was cut}: the same command resumes the download"
    fi
    die 1 "$url: ${reason:-the connection was cut}: check it and run again, or try later"
}

unpack() {
    run python3 -IS - "$archive" "$name" "$tmp" "$place" $((TIMES * size)) "${folders[*]}" "$others" <<'END'
import errno, gzip, os, re, shutil, stat, sys, tarfile, zipfile

archive, name, temporary, place, limit, needed, others = sys.argv[1:]
MEMBERS = 50_000 if archive.endswith(".zip") else 200_000  # the largest sets have about 8,000 pictures, and 139,000 pairs
LONGEST = 1 << 16  # bytes of what is read at once: headers that say more of a member


class Unsafe(Exception):
    pass


class Header(tarfile.TarInfo):
    @classmethod
    def frombuf(cls, *arguments):
        header = super().frombuf(*arguments)
        if header.type == tarfile.GNUTYPE_SPARSE or header.type not in tarfile.REGULAR_TYPES and header.size > LONGEST:
            raise Unsafe("it has headers without end")  # which would all be read into memory
        return header


def reject(why):
    os.remove(archive)
    sys.exit(f"{archive}: {why}")


def is_inside(path):
    parts = path.split("/")
    return parts[0] == name and not any(p == ".." or "\\" in p or re.match("[A-Za-z]:", p) for p in parts)


def of_zip():
    """Of each member its path, what it is, its bytes, and what it is opened with."""
    with zipfile.ZipFile(archive) as z:
        for m in z.infolist():
            kind = stat.S_IFMT(m.external_attr >> 16)
            # What it says of its size can be a lie, but zipfile unpacks no more than that; of other methods with any amount of memory.
            if m.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise Unsafe("it is packed by another method than deflate")
            what = "other" if kind not in (0, stat.S_IFREG, stat.S_IFDIR) else "folder" if m.is_dir() else "file"
            yield m.filename, what, m.file_size, lambda: z.open(m)


def of_tar():
    """As `of_zip`; at the end all has been decompressed, and its checksum verified."""
    with gzip.open(archive) as packed:
        with tarfile.open(fileobj=packed, mode="r|", tarinfo=Header) as tar:
            for m in tar:
                what = "folder" if m.isdir() else "file" if m.isfile() and not m.issparse() else "other"
                yield m.name[2:] if m.name.startswith("./") else m.name, what, m.size, lambda: tar.extractfile(m)
        if len(packed.read(LONGEST)) == LONGEST:
            raise tarfile.ReadError  # what looks like the end is none


def members():
    """As these two, without what macOS adds. Raises `Unsafe` at the first member that must not be unpacked."""
    count = total = 0
    for path, what, size, open_it in of_zip() if archive.endswith(".zip") else of_tar():
        count, total = count + 1, total + size
        if total > int(limit) * 1e6 or count > MEMBERS:
            most = f"the limit is {MEMBERS:,} files and {int(limit):,} MB"
            raise Unsafe(f"{count:,} files, {total / 1e6:,.0f} MB once unpacked, if not more; {most}")
        if path.startswith("__MACOSX/") or os.path.basename(path).startswith("._") or path == ".":
            continue
        if what == "other" or not is_inside(path):
            raise Unsafe(f"{path!a} is a link or leads out of {name}/")
        yield path, what, size, open_it


try:
    files, size = [], 0
    for path, what, bytes, _ in members():  # all, before any is unpacked
        size += bytes / 1e6
        if what == "file":
            files.append(path)
    counts = {f: sum(file.startswith(f"{name}/{f}/") for file in files) for f in f"{needed} {others}".split()}
    for folder in needed.split():
        if not counts[folder]:
            reject(f"the archive has no pictures in {name}/{folder} and was removed: this is not the data set")
    free = shutil.disk_usage("data").free / 1e6
    if free < size:
        sys.exit(f"data: {free:,.1f} MB free, but unpacked {name} takes {size:,.1f} MB: make room and run again, {archive} is kept")
    for path, what, _, open_it in members():
        target = os.path.join(temporary, path)
        os.makedirs(target if what == "folder" else os.path.dirname(target), exist_ok=True)
        if what == "file":
            with open_it() as source, open(target, "xb") as file:
                shutil.copyfileobj(source, file)
except Unsafe as e:
    reject(f"the archive is unsafe and was removed: {e}")
except Exception as e:  # a damaged archive can raise nearly anything
    if isinstance(e, OSError) and e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):  # not the archive's fault
        sys.exit(f"data: {e.strerror}: make room and run again, {archive} is kept")
    reject("the archive was damaged and was removed: run again to download it anew")
os.rename(os.path.join(temporary, name), place)
print(f"{place}:", ", ".join(f"{folder} {count}" for folder, count in counts.items()))
END
}

case ${1-} in
    -h | --help)
        usage
        exit
        ;;
esac
if [[ $# -ne 1 ]]; then
    usage >&2
    exit 2
fi

name='' size='' names=''
while read -r known megabytes _; do
    names+=", $known"
    if [[ $known == "$1" ]]; then
        name=$known size=$megabytes
    fi
done <<<"$SETS"
if [[ -z $name ]]; then
    die 2 "$(printf %q "$1"): no such data set: use one of ${names#, }"
fi

folders=(trainA trainB) others='testA testB'
if [[ $name == ae_photos ]]; then
    folders=(testA) others=''
fi
place=data/$name archive=data/$name.zip base=$URL
if [[ $name == pix2pix/* ]]; then
    name=${name#*/} folders=(train) others='val test'
    place=data/${name}_pairs archive=data/$name.tar.gz base=$URL_OF_PAIRS
fi
base=${DATASET_URL:-$base}
case $base in
    http://* | https://*) ;;
    *) die 2 "DATASET_URL=$(printf %q "$base"): use an address that begins with http:// or https://" ;;
esac

exec </dev/null # run() needs a stdin that is open
CDPATH='' cd -- "$(dirname -- "$(readlink -f "$0" 2>/dev/null || echo "$0")")" || exit 1
url=${base%/}/${archive#data/} part=$archive.part temporary=data/.${place#data/}.tmp-$HOSTNAME- tmp='' downloading=no

for left in "$temporary"*; do # by processes of this machine that were killed
    if [[ ${left#"$temporary"} =~ ^([0-9]+)-[A-Za-z0-9]{6}$ ]] && ! kill -0 "${BASH_REMATCH[1]}" 2>/dev/null; then
        rm -rf "$left" 2>/dev/null
    fi
done

missing=
for folder in "${folders[@]}"; do
    compgen -G "$place/$folder/*" >/dev/null || missing+=" $folder"
done
if [[ -z $missing ]]; then
    echo "$place is there already"
    exit
elif [[ -e $place ]]; then
    die 2 "$place is there, but without pictures in${missing}: move it away and run again"
elif [[ $name == cityscapes ]]; then
    die 2 "cityscapes: its licence forbids copies: get it from https://www.cityscapes-dataset.com and fill$missing in $place"
fi
command -v python3 >/dev/null || die 1 "python3: not found, but needed to check and unpack the archive: install it"

trap clean_up EXIT
trap 'stop 130 interrupted' INT
trap 'stop 143 terminated' TERM
trap 'stop 129 "terminal lost"' HUP
if ! { mkdir -p data && tmp=$(mktemp -d "$temporary$$-XXXXXX"); } 2>/dev/null; then
    die 1 "data: cannot write to this folder"
fi

if [[ -f $archive ]]; then
    echo "$archive is there already: not downloaded again"
else
    ask_for_room
    echo "downloading $url"
    downloading=yes
    download
    downloading=no
    : >>"$part" # older curls make no file of an empty answer
    mv -f "$part" "$archive" || exit 1
fi
echo "checking and unpacking $archive"
if ! unpack; then
    reason=$(tail -n 1 "$tmp/log")
    die 1 "${reason:-$archive: python3 was stopped while it unpacked: run again}"
fi
rm -f "$archive"
