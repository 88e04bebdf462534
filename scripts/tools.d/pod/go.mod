module hereabouts/tools/pod

go 1.26.0

tool hereabouts/tools/pod
