// Command cri-api prints the upstream CRI's declarations as a binary
// FileDescriptorSet, so that cridge's own protos can be compared with them.
package main

import (
	"log"
	"os"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func main() {
	api := protodesc.ToFileDescriptorProto(runtime.File_staging_src_k8s_io_cri_api_pkg_apis_runtime_v1_api_proto)
	set := &descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{api}}
	bytes, err := proto.Marshal(set)
	if err != nil {
		log.Fatalf("encode the descriptors of %s: %v", api.GetName(), err)
	}
	if _, err := os.Stdout.Write(bytes); err != nil {
		log.Fatalf("write the descriptors: %v", err)
	}
}
