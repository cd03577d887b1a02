target "sec" {
  secret = ["id=a,env=HOME", "id=a,env=HOME", "id=b,env=PATH"]
  cache-from = ["type=registry,ref=x/cache", "y"]
  cache-to = ["type=inline"]
  attest = ["type=sbom", "type=provenance,mode=max"]
  output = ["type=local,dest=out", "type=image,name=a"]
}
target "sub" {
  inherits = ["sec"]
  cache-from = ["z"]
  tags = ["a"]
}
