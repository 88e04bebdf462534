module hereabouts/tools/timed

go 1.26.0

tool hereabouts/tools/timed
