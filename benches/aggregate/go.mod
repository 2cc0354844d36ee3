module aggregate

go 1.21
