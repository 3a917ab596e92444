package web

import "net/http"

func (s *site) productCreate(w http.ResponseWriter, r *request) {
	err := form(w, r.Request)
	if err == nil {
		_, err = s.control.CreateProduct(r.ctx, r.scope, r.PostFormValue("name"))
	}
	if err != nil {
		s.again(w, r, err, "product", orgPath(r.org.Name), s.productList)
		return
	}
	back(w, r, productPath(r.org.Name, r.PostFormValue("name")), "created")
}
